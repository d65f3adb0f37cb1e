#!/usr/bin/env python3
"""Blow up outbound-end-of-call-report-full.json to about N bytes.

usage: make_large_report.py [target_bytes=1000000] > big.json
The conversation is repeated with word-level confidences, because that (three
copies: message.messages, artifact.messages, artifact.messagesOpenAIFormatted)
is what makes real reports grow.
"""

import copy, json, os, sys

target = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
here = os.path.dirname(os.path.abspath(__file__))
d = json.load(open(os.path.join(here, "outbound-end-of-call-report-full.json")))
m = d["message"]
turns, oai = m["messages"][1:], m["artifact"]["messagesOpenAIFormatted"][1:]
while len(json.dumps(d, ensure_ascii=False, separators=(",", ":")).encode()) < target:
    m["messages"] = m["messages"] + copy.deepcopy(turns) * 4
    m["artifact"]["messages"] = m["messages"]
    m["artifact"]["messagesOpenAIFormatted"] = m["artifact"]["messagesOpenAIFormatted"] + oai * 4
    m["transcript"] = m["artifact"]["transcript"] = m["transcript"] + m["artifact"]["transcript"]
json.dump(d, sys.stdout, ensure_ascii=False, separators=(",", ":"))
