"""Who spoke on a call: by its messages, else by its transcript, whatever the labels and the script."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.vapi.messages import ArtifactPlan, TranscriptPlan
from service.vapi.speech import customer_spoke, transcript_of


def spoke(
    messages: Any = None, transcript: str | None = None, assistant: str | None = None, customer: str | None = None
) -> bool | None:
    return customer_spoke(
        b"" if messages is None else json.dumps(messages).encode(),
        b"" if transcript is None else json.dumps(transcript).encode(),
        [ArtifactPlan(transcriptPlan=TranscriptPlan(assistantName=assistant, userName=customer))],
    )


def test_messages_tell_whether_the_customer_said_anything() -> None:
    bot, system = {"role": "bot", "message": "Hi."}, {"role": "system", "message": "Prompt."}
    expected: list[tuple[list[Any], bool | None]] = [
        ([system, bot, {"role": "user", "message": "Yes."}], True),
        ([{"role": "customer", "content": "Yes."}], True),
        ([bot, {"role": "user", "content": [{"type": "text", "text": "Yes."}]}], True),
        ([bot, {"role": "User", "message": "Yes."}], True),
        ([bot, {"role": "user", "message": ""}], False),
        ([bot, {"role": "user", "message": " \u00a0\u3000"}], False),
        ([bot, {"role": "user", "message": None}, {"role": "user", "message": 5}], False),
        ([{"role": "assistant", "message": "Hi."}], False),
        ([{"role": "bot"}], False),
        ([system], None),
        ([{"role": "tool_calls", "message": "x"}], None),
        (["text", 5, None, {"role": 5, "message": "x"}], None),
        ([5, {"role": "user", "message": "Yes."}], True),
        ([], None),
    ]
    wrong = [(messages, spoke(messages)) for messages, tells in expected if spoke(messages) is not tells]
    assert wrong == []


def test_messages_decide_before_the_transcript() -> None:
    assert spoke([{"role": "bot", "message": "Hi."}], "User: Yes.") is False
    assert spoke([{"role": "user", "message": "Yes."}], "AI: Hi.") is True
    assert spoke([{"role": "system", "message": "Prompt."}], "User: Yes.") is True


def test_a_transcript_tells_by_its_labels() -> None:
    expected: list[tuple[str, bool]] = [
        ("AI: Hi.\nUser: Yes.\n", True),
        ("AI: Hi.\nAI: Are you still there?\n", False),
        ("Assistant: Hi.\nBot: Hello?\nai: Hm?", False),
        ("AI: Hi.\nUser:\n", False),
        ("AI: Hi.\nUser: \u00a0\u3000\n", False),
        ("AI: Hi.\nUser:\nYes.", True),
        ("AI: Hi.\nAre you there?", False),
        ("AI: Hi,\n  it is 10:30.\nSee https://example.com: it says so.", False),
        ("Yes, hello?", True),
        ("\n \nHello?\nAI: Hi.", True),
        ("AI: Hi.\nCustomer: Yes.", True),
        ("AI: Hi.\nSeller: Yes.", True),
        ("AI：你好。\n用户：在。", True),
        ("AI：你好。", False),
        ("AI: Hi.\r\nUser: Yes.\r\n", True),
        ("AI:Hi.\nAI:Are you still there?", False),
        ("AI:Hi.\nUser:Yes.", True),
        ("AI: Hi.\nUser (on speaker): Yes.", True),
        ("AI: नमस्ते।\nउपयोगकर्ता: हाँ।", True),
        ("AI: สวัสดี\nผู้ใช้: ใช่", True),
        ("AI: سلام\nمی‌گوید: بله", True),
        ("\ufeffAI: Hi.\n\u200fAI: Are you still there?", False),
        ("AI: Hi.\nUser: \u200e\u200c\u2800", False),
        (" \n\u00a0", False),
    ]
    wrong = [(transcript, spoke(None, transcript)) for transcript, told in expected if spoke(None, transcript) != told]
    assert wrong == []


def test_the_assistant_may_have_a_name_of_its_own_in_the_transcript() -> None:
    assert spoke(None, "Buyer: Hi.\nBuyer: Still there?", "Buyer") is False
    assert spoke(None, "Buyer: Hi.\nSeller: Yes.", "buyer ") is True
    assert spoke(None, "Buyer: Hi.") is True


def test_the_names_in_a_transcript_may_hold_any_character() -> None:
    names = [
        ("Anna (AI)", "Bob"),
        ("एआई", "यूज़र"),
        ("🤖 Bot", "🙂"),
        ("Sales & Co., Ltd.", "Caller; 2"),
        ("A" * 60, "B" * 60),
    ]
    for assistant, customer in names:
        alone = f"{assistant}: Hi.\n{assistant}: Are you still there?"
        assert spoke(None, alone, assistant, customer) is False, assistant
        assert spoke(None, f"{alone}\n{customer}: Yes.", assistant, customer) is True, customer
        assert spoke(None, f"{alone}\n{customer}: ", assistant, customer) is False, customer


def test_without_messages_and_transcript_nobody_knows() -> None:
    assert spoke() is None
    assert spoke([]) is None


@pytest.mark.parametrize("number", ["1e400", "-1e999", "9" * 5000])
def test_a_number_beyond_a_double_anywhere_in_a_message_is_passed_over(number: str) -> None:
    customers = '{"role":"user","message":"Yes.","time":%s}'
    assistants = '{"role":"bot","message":"Hi.","toolCalls":[{"arguments":{"amount":%s}}]}'
    expected = {
        f"[{customers % number}]": True,
        f"[{assistants % number}]": False,
        f"[{number},{customers % 1}]": True,
        f'[{{"role":"user","message":{number},"content":[{number},{{"text":"Yes."}}]}}]': True,
        f'[{{"role":{number},"message":"Yes."}}]': None,
        number: None,
    }
    found = {messages: customer_spoke(messages.encode(), b"", []) for messages in expected}
    assert found == expected
    assert transcript_of(f"[{customers % number}]".encode()) == "User: Yes.\n"


def test_a_listed_transcript_becomes_lines() -> None:
    lines = [
        {"role": "system", "message": "Prompt."},
        {"role": "assistant", "message": "Are you free?"},
        {"role": "user", "content": "Yes."},
        {"role": "bot", "message": "  "},
        "odd",
    ]
    assert transcript_of(json.dumps(lines).encode()) == "AI: Are you free?\nUser: Yes.\n"


def test_each_entry_of_a_listed_transcript_is_one_line() -> None:
    lines = [{"role": "bot", "message": "Are you free on:\nMonday: at nine?\r\n\r\nTuesday: at ten?\n"}]
    assert transcript_of(json.dumps(lines).encode()) == "AI: Are you free on: Monday: at nine? Tuesday: at ten?\n"


def test_a_listed_transcript_without_an_entry_of_either_side_tells_nothing() -> None:
    odd: list[list[Any]] = [
        ["AI: Hi."],
        [{"role": "system", "message": "Prompt."}],
        [{"speaker": "user", "message": "x"}],
        [[]],
    ]
    for lines in odd:
        assert transcript_of(json.dumps(lines).encode()) is None, lines
    assert transcript_of(b'[{"role":"bot","message":" "}]') == ""
