"""Requests made of our documents, and whether the answers are those they promise."""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
import urllib.request

SERVER = os.environ["SERVER_URL"]

# The schemas say what a request means, and not all that the server makes of it: an empty parameter is one that was not
# sent, and whether a payment can be retried no schema knows.
LEFT_OUT = "positive_data_acceptance,negative_data_rejection"


class Fuzz(unittest.TestCase):
    def test_whatever_is_sent_to_veriko_is_answered_as_described(self):
        key = os.environ["VERIKO_API_KEY"]
        # So that there is one; on a port that nobody listens on.
        request = urllib.request.Request(
            f"{SERVER}/v1/webhooks",
            json.dumps({"url": "http://127.0.0.1:9/", "events": ["validation.failed"]}).encode(),
            {"Authorization": f"Bearer {key}"},
        )
        with urllib.request.urlopen(request) as answer:
            self.assertIn(answer.status, (200, 201))
        # They would have the server call whatever URL is made up, and nobody outside is to hear of a test.
        self.fuzz("veriko", key, not_called=["createWebhook", "updateWebhook", "validateOcr"])

    def test_whatever_is_sent_to_txcloud_is_answered_as_described(self):
        self.fuzz("txcloud", "txc_test_abc123def456")

    def test_whatever_is_sent_to_mintfax_is_answered_as_described(self):
        self.fuzz("mintfax", "mfx_test_abc123def456")

    def fuzz(self, name, key, not_called=()):
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.run(
                [sys.executable, "-m", "schemathesis.cli", "run", f"{SERVER}/openapi/{name}.json"]
                + ["--header", f"Authorization: Bearer {key}"]
                + ["--checks", "all", "--exclude-checks", LEFT_OUT]
                + [part for name in not_called for part in ("--exclude-operation-id", name)]
                + ["--phases", "examples,coverage,fuzzing", "--max-examples", "20"]
                + ["--seed", "1", "--generation-database", "none", "--no-color"],
                capture_output=True,
                cwd=folder,
                env=os.environ | {"SCHEMATHESIS_HOOKS": "document_hooks", "PYTHONPATH": os.getcwd()},
                text=True,
            )
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        made, passed = re.search(r"(\d+) generated, (\d+) passed", run.stdout).groups()
        selected, described = re.search(r"(\d+) selected / (\d+) total", run.stdout).groups()
        self.assertEqual(made, passed, run.stdout)
        self.assertEqual(int(selected), int(described) - len(not_called), run.stdout)
