"""Requests made of our document, and whether the answers are those it promises."""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
import urllib.request

SERVER = os.environ["SERVER_URL"]
KEY = os.environ["VERIKO_API_KEY"]

# The schemas say what a request means, and not all that the server makes of it: an empty parameter is one that was not
# sent, and whether a payment can be retried no schema knows.
LEFT_OUT = "positive_data_acceptance,negative_data_rejection"

# They would have the server call whatever URL is made up, and nobody outside is to hear of a test.
NOT_CALLED = ["createWebhook", "updateWebhook", "validateOcr"]


class Fuzz(unittest.TestCase):
    def test_whatever_is_sent_the_answer_is_one_that_is_described(self):
        self.create_webhook()
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.run(
                [sys.executable, "-m", "schemathesis.cli", "run", f"{SERVER}/openapi.json"]
                + ["--header", f"Authorization: Bearer {KEY}"]
                + ["--checks", "all", "--exclude-checks", LEFT_OUT]
                + [part for name in NOT_CALLED for part in ("--exclude-operation-id", name)]
                + ["--phases", "examples,coverage,fuzzing", "--max-examples", "20"]
                + ["--seed", "1", "--generation-database", "none", "--no-color"],
                capture_output=True,
                cwd=folder,
                text=True,
            )
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        made, passed = re.search(r"(\d+) generated, (\d+) passed", run.stdout).groups()
        selected, described = re.search(r"(\d+) selected / (\d+) total", run.stdout).groups()
        self.assertEqual(made, passed, run.stdout)
        self.assertEqual(int(selected), int(described) - len(NOT_CALLED), run.stdout)

    def create_webhook(self):
        """So that there is one; on a port that nobody listens on."""
        request = urllib.request.Request(
            f"{SERVER}/v1/webhooks",
            json.dumps({"url": "http://127.0.0.1:9/", "events": ["validation.failed"]}).encode(),
            {"Authorization": f"Bearer {KEY}"},
        )
        with urllib.request.urlopen(request) as answer:
            self.assertIn(answer.status, (200, 201))
