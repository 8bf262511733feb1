"""Requests made of our document, and whether the answers are those it promises."""

import os
import re
import subprocess
import sys
import tempfile
import unittest

SERVER = os.environ["SERVER_URL"]
KEY = os.environ["VERIKO_API_KEY"]

# The schemas say what a request means, and not all that the server makes of it: an empty parameter is one that was not
# sent, and whether a payment can be retried no schema knows.
LEFT_OUT = "positive_data_acceptance,negative_data_rejection"


class Fuzz(unittest.TestCase):
    def test_whatever_is_sent_the_answer_is_one_that_is_described(self):
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.run(
                [sys.executable, "-m", "schemathesis.cli", "run", f"{SERVER}/openapi.json"]
                + ["--header", f"Authorization: Bearer {KEY}"]
                + ["--checks", "all", "--exclude-checks", LEFT_OUT]
                + ["--phases", "examples,coverage,fuzzing", "--max-examples", "20"]
                + ["--seed", "1", "--generation-database", "none", "--no-color"],
                capture_output=True,
                cwd=folder,
                text=True,
            )
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        made, passed = re.search(r"(\d+) generated, (\d+) passed", run.stdout).groups()
        selected, described = re.search(r"(\d+) selected / (\d+) total", run.stdout).groups()
        self.assertEqual((made, selected), (passed, described), run.stdout)
