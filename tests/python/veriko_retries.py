"""Retries, through the vendor's client, on a server that allows them a second apart."""

import unittest

from veriko import RetryPolicy, Veriko
from veriko.errors import InvalidRequestError

from payments import payment

SOON = RetryPolicy(max_retries=3, interval_seconds=1, outcomes=["not_found"])
LATER = RetryPolicy(max_retries=3, interval_seconds=600, outcomes=["not_found"])


class Retries(unittest.TestCase):
    def setUp(self):
        self.client = Veriko(max_retries=0)
        self.validations = self.client.validations

    def settled(self, validation):
        return self.validations.wait_for(validation.id, timeout=60, poll_interval=0.05)

    def refused(self, code, call, *arguments, **more):
        with self.assertRaises(InvalidRequestError) as raised:
            call(*arguments, **more)
        self.assertEqual((raised.exception.status, raised.exception.code), (422, code))
        return raised.exception

    def test_a_cycle_resolves_when_the_payment_is_found(self):
        validation = self.validations.validate(**payment("-VALIDAFTER2", retry_policy=SOON))
        self.assertEqual((validation.status, validation.is_settled), ("not_found", False))
        state = validation.retry_state
        self.assertEqual((state.enabled, state.terminal_state, state.attempts_completed), (True, "pending", 0))
        self.assertEqual((state.max_retries, state.interval_seconds, state.outcomes), (3, 1, ["not_found"]))
        self.assertIsNotNone(state.next_attempt_at)

        settled = self.settled(validation)
        state = settled.retry_state
        self.assertEqual((settled.status, settled.has_cep), ("valid", True))
        self.assertEqual((state.enabled, state.terminal_state, state.attempts_completed), (False, "resolved", 2))
        self.assertIsNotNone(state.resolved_at)
        self.assertEqual((state.exhausted_at, state.cancelled_at, state.next_attempt_at), (None, None, None))
        self.assertEqual((state.max_retries, state.interval_seconds, state.outcomes), (None, None, None))

        first, second = self.validations.retry_attempts(validation.id)
        self.assertEqual((first.attempt_number, second.attempt_number), (1, 2))
        self.assertEqual((first.prev_status, first.new_status), ("not_found", "not_found"))
        self.assertEqual((second.prev_banxico_status, second.new_banxico_status), ("not_found", "valid"))
        self.assertLessEqual(first.dispatched_at, first.started_at)
        self.assertLessEqual(first.finished_at, second.started_at)
        self.assertGreaterEqual(second.processing_time_ms, 0)
        self.assertIsNone(second.error_code)
        self.refused("retry_already_resolved", self.validations.set_retry_policy, validation.id, SOON)

    def test_a_cycle_is_exhausted_and_begun_anew(self):
        once = RetryPolicy(max_retries=1, interval_seconds=1, outcomes=["not_found"])
        validation = self.validations.validate(**payment("-NOTFOUND", retry_policy=once))
        state = self.settled(validation).retry_state
        self.assertEqual((state.terminal_state, state.attempts_completed), ("exhausted", 1))
        self.assertIsNotNone(state.exhausted_at)

        state = self.validations.set_retry_policy(validation.id, once)
        self.assertEqual((state.enabled, state.terminal_state), (True, "pending"))
        self.assertEqual(self.settled(validation).retry_state.terminal_state, "exhausted")
        numbers = [attempt.attempt_number for attempt in self.validations.retry_attempts(validation.id)]
        self.assertEqual(numbers, [1, 2])

    def test_a_cycle_is_cancelled_once(self):
        validation = self.validations.validate(**payment("-NOTFOUND", retry_policy=LATER))
        self.assertEqual([item.id for item in self.validations.list(retry_state="pending")], [validation.id])
        cancelled = self.validations.cancel_retries(validation.id, idempotency_key="cancel")
        self.assertEqual((cancelled.enabled, cancelled.terminal_state), (False, "cancelled"))
        self.assertIsNotNone(cancelled.cancelled_at)
        again = self.validations.cancel_retries(validation.id, idempotency_key="cancel")
        self.assertEqual(again.raw, cancelled.raw, "the same key is the same cancel")
        self.refused("retry_not_active", self.validations.cancel_retries, validation.id)
        self.assertTrue(self.validations.get(validation.id).is_settled)

    def test_a_cycle_begins_changes_and_ends_by_its_own_policy(self):
        validation = self.validations.validate(**payment("-NOTFOUND"))
        self.assertIsNone(validation.retry_state.terminal_state)
        begun = self.validations.set_retry_policy(validation.id, LATER, idempotency_key="begin")
        self.assertEqual((begun.enabled, begun.interval_seconds), (True, 600))
        again = self.validations.set_retry_policy(validation.id, LATER, idempotency_key="begin")
        self.assertEqual(again.raw, begun.raw)
        changed = {"enabled": True, "max_retries": 2, "interval_seconds": 900, "outcomes": ["not_found", "error"]}
        state = self.validations.set_retry_policy(validation.id, changed)
        self.assertEqual((state.max_retries, state.interval_seconds), (2, 900))
        self.assertEqual(state.outcomes, ["not_found", "error"])
        state = self.validations.set_retry_policy(validation.id, RetryPolicy(enabled=False))
        self.assertEqual((state.enabled, state.terminal_state), (False, "cancelled"))

    def test_what_is_queued_is_retried_too(self):
        queued = self.validations.enqueue(**payment("-VALIDAFTER2", retry_policy=SOON))
        settled = self.settled(queued)
        self.assertEqual((settled.status, settled.retry_state.terminal_state), ("valid", "resolved"))

    def test_every_violation_of_a_policy_is_read(self):
        policy = RetryPolicy(max_retries=99, interval_seconds=0, outcomes=["valid"])
        error = self.refused("retry_policy_invalid", self.validations.validate, **payment(retry_policy=policy))
        pointers = [entry["source"]["pointer"] for entry in error.errors]
        fields = [pointer.removeprefix("/data/attributes/retry_policy/") for pointer in pointers]
        self.assertEqual(fields, ["max_retries", "interval_seconds", "outcomes"])
        self.assertEqual([violation["field"] for violation in error.meta["violations"]], fields)

    def test_the_accounts_policy_is_saved_and_taken_by_what_brings_none(self):
        account = self.client.account
        none = {"enabled": False, "max_retries": 0, "interval_seconds": 0, "outcomes": []}
        self.assertEqual(account.get_my_retry_policy(), none)
        saved = account.update_my_retry_policy(LATER, idempotency_key="save")
        self.assertEqual(saved, LATER.to_payload())
        self.assertEqual(account.update_my_retry_policy(LATER, idempotency_key="save"), saved)
        self.assertEqual(account.retry_policy(), saved)
        validation = self.validations.validate(**payment("-NOTFOUND"))
        self.assertEqual(validation.retry_state.interval_seconds, 600)
        self.refused("retry_policy_invalid", account.update_my_retry_policy, RetryPolicy(max_retries=0))
        self.assertEqual(account.update_my_retry_policy({"enabled": False}), none)
        self.assertEqual(self.validations.validate(**payment("-NOTFOUND")).retry_state.enabled, False)
