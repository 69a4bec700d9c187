#!/usr/bin/env python3
"""A brain in twenty lines: it shouts, and it asks for nothing."""
import json
import sys

request = json.load(sys.stdin)
answer = {}
if request["occasion"] == "tick":
    answer["tasks"] = [{"kind": "count", "text": f"Question number {request['tick']}"}]
elif request["occasion"] == "task":
    task = request["task"]
    answer["output"] = task["text"].upper()
    answer["observe"] = [{"text": f"I shouted: {task['text']}", "tags": ["loud"]}]
    answer["evidence"] = [known["uri"] for known in request.get("known", [])[:1]]
    answer["tell"] = "I hope that was not too loud."
    answer["remember"] = {"shouted": task["text"][:100]}
json.dump(answer, sys.stdout)
