"""The facts of a call as JSON text."""

from __future__ import annotations

import gc

from service.calls.facts import Facts


def test_facts_that_are_given_have_text_and_others_are_left_out() -> None:
    facts = Facts(customer_phone="+18645550123", duration_minutes=0.0, customer_spoke=False, transcript=b'"Hello."')
    assert facts.fragments() == {
        "customer_phone": b'"+18645550123"',
        "duration_minutes": b"0.0",
        "customer_spoke": b"false",
        "transcript": b'"Hello."',
    }


def test_writing_facts_as_text_keeps_no_memory() -> None:
    facts = Facts(customer_phone="+18645550123")
    facts.fragments()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(1000):
        facts.fragments()
    assert len(gc.get_objects()) - before < 100
