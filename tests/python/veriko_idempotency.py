"""Requests that are sent again, by the vendor's client or by who uses it."""

import os
import unittest

from veriko import RetryConfig, RetryPolicy, Veriko
from veriko.errors import ServerError

from payments import payment
from relay import LOSE, REFUSE, Relay

LATER = RetryPolicy(max_retries=3, interval_seconds=600, outcomes=["not_found"])


def patient(url, tries=5):
    """A client that tries again by itself, soon."""
    return Veriko(base_url=url, retry=RetryConfig(tries, backoff_base_seconds=0.02, backoff_max_seconds=0.2))


class Idempotency(unittest.TestCase):
    def setUp(self):
        self.client = Veriko(max_retries=0)

    def made(self):
        """How many validations there are, and how many were paid for."""
        return self.client.validations.list().total, self.client.usage.summary().used

    def through(self, *faults):
        relay = Relay(lambda: os.environ["VERIKO_BASE_URL"], *faults).__enter__()
        self.addCleanup(relay.__exit__)
        return relay, patient(relay.url)

    def test_a_key_that_is_used_again_is_answered_as_before(self):
        asked = payment("-NOTFOUND", idempotency_key="payment-17", retry_policy=LATER)
        first = self.client.validate_transfer(**asked)
        for _ in range(3):
            self.assertEqual(self.client.validate_transfer(**asked).raw, first.raw)
        queued = payment(idempotency_key="payment-18")
        acknowledged = self.client.validations.enqueue(**queued)
        self.client.validations.wait_for(acknowledged.id, timeout=60, poll_interval=0.05)
        again = self.client.validations.enqueue(**queued)
        self.assertEqual((again.raw, again.etag), (acknowledged.raw, acknowledged.etag))
        self.assertEqual(self.made(), (2, 2))

    def test_a_lost_answer_is_asked_for_again_and_nothing_happens_twice(self):
        relay, client = self.through(LOSE, LOSE)
        validation = client.validate_transfer(**payment("-NOTFOUND", retry_policy=LATER))
        self.assertEqual((relay.passed, self.made()), (3, (1, 1)))
        self.assertEqual(self.client.validations.list()[0].id, validation.id)

        relay.faults = [LOSE]
        queued = client.validations.enqueue(**payment())
        self.assertEqual((relay.passed, self.made()), (5, (2, 2)))
        self.assertEqual(self.client.validations.list()[0].id, queued.id)

        relay.faults = [LOSE]
        cancelled = client.validations.cancel_retries(validation.id, idempotency_key="cancel")
        self.assertEqual((relay.passed, cancelled.terminal_state), (7, "cancelled"))

    def test_a_503_in_between_is_tried_again_and_nothing_happens_twice(self):
        relay, client = self.through(REFUSE, LOSE, REFUSE)
        self.assertEqual(client.validate_transfer(**payment()).status, "valid")
        self.assertEqual((relay.passed, self.made()), (2, (1, 1)))

    def test_the_servers_own_503_is_tried_again_and_then_raised(self):
        relay, client = self.through()
        with self.assertRaises(ServerError):
            client.validate_transfer(**payment("-RATELIMITED"))
        self.assertEqual((relay.passed, self.made()), (6, (0, 0)))


class Crash(unittest.TestCase):
    """The server is killed while this runs, and started again elsewhere: this file says where it is."""

    def test_a_server_that_was_killed_in_between_is_asked_again(self):
        def upstream():
            with open(os.environ["TEST_UPSTREAM"], encoding="ascii") as file:
                return file.read()

        with Relay(upstream) as relay:
            client = patient(relay.url, tries=1000)
            validation = client.validate_transfer(**payment("-NOTFOUND", retry_policy=LATER))
            self.assertEqual(validation.retry_state.terminal_state, "pending")
            listed = client.validations.list()
            self.assertEqual([item.id for item in listed], [validation.id])
            self.assertEqual(client.usage.summary().used, 1)
