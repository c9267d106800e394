#!/usr/bin/env python3
"""Raises an alert from another process, over the server API alone: no login, no package, only the key.

    python3 alert.py --key KEY --product 1 --priority high --title "Tool worn"

The key is in the file `api-key` beside the server's data, or what it was given with `--api-key`. Who may see the product sees the alert at once, on
all nodes; the server writes it into the history. Prints the alert's id; a second try with the same `--id` is told once.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid

LEVELS = {"low": 1, "medium": 2, "high": 3, "critical": 4}


def main():
    parser = argparse.ArgumentParser(description="Raise an SPC alert over the server API.")
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    parser.add_argument("--key", default=os.environ.get("SPC_API_KEY"), help="or SPC_API_KEY")
    parser.add_argument("--product", type=int, required=True)
    parser.add_argument("--alert-type", default="EXTERNAL")
    parser.add_argument("--priority", choices=LEVELS, default="medium")
    parser.add_argument("--title", required=True)
    parser.add_argument("--message", default="")
    parser.add_argument("--id", default=str(uuid.uuid4()))
    given = parser.parse_args()
    if not given.key:
        parser.error("--key or SPC_API_KEY is needed")

    alert = {
        "type": "alert",
        "id": given.id,
        "product_id": given.product,
        "product": f"Product {given.product}",
        "alert_type": given.alert_type,
        "priority": given.priority,
        "title": given.title,
        "message": given.message,
        "at_ms": int(time.time() * 1000),
        "by": "alert.py",
    }
    tags = {"type": "alert", "priority": given.priority, "level": str(LEVELS[given.priority]), "alert_type": given.alert_type}
    # The same two topics that the application publishes to; pages show what comes by both once.
    topics = [f"alerts:product.{given.product}", f"spc:product.{given.product}"]
    body = {"channels": topics, "data": alert, "tags": tags, "idempotency_key": given.id}
    request = urllib.request.Request(
        f"{given.url}/api/broadcast",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "X-API-Key": given.key},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            replies = json.load(answer)
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.code}: {error.read().decode()}")
    wrong = replies.get("error") or next((reply["error"] for reply in replies["result"]["responses"] if "error" in reply), None)
    if wrong:
        sys.exit(f"{wrong['message']}. {wrong.get('hint', '')}")
    print(f"raised {given.id}")


if __name__ == "__main__":
    main()
