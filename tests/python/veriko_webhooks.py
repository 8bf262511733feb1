"""Webhooks, through the vendor's client, on a server that tries again soon."""

import time
import unittest
import uuid

from veriko import RetryPolicy, Veriko
from veriko.errors import InvalidRequestError, NotFoundError, SignatureVerificationError
from veriko.webhooks import (
    parse_webhook,
    signature_from_headers,
    timestamped_signature_from_headers,
    verify_webhook,
    verify_webhook_timestamped,
)

from payments import key, payment
from receiver import Receiver

VERDICTS = ["validation.completed", "validation.error"]
RETRIES = ["validation.retry.scheduled", "validation.retry.resolved", "validation.retry.exhausted"]


class Webhooks(unittest.TestCase):
    def setUp(self):
        self.client = Veriko(max_retries=0)
        self.webhooks = self.client.webhooks

    def receiver(self, *statuses):
        receiver = Receiver(*statuses).__enter__()
        self.addCleanup(receiver.__exit__)
        return receiver

    def verified(self, delivery, secret):
        """The event of a delivery whose signatures are both the secret's."""
        signature = signature_from_headers(delivery.headers)
        timestamped = timestamped_signature_from_headers(delivery.headers)
        self.assertTrue(verify_webhook(delivery.body, signature, secret))
        self.assertTrue(verify_webhook_timestamped(delivery.body, timestamped, secret))
        self.assertFalse(verify_webhook_timestamped(delivery.body + b" ", timestamped, secret))
        event = parse_webhook(delivery.body, signature, secret)
        self.assertEqual(delivery.headers["X-Veriko-Event"], event.event)
        return event

    def eventually(self, ask):
        deadline = time.monotonic() + 60
        while not (answer := ask()):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        return answer

    def test_an_endpoint_is_made_listed_changed_and_deleted(self):
        made = self.webhooks.create(url="https://8.8.8.8/hooks", events=VERDICTS, description="shop")
        self.assertRegex(made.secret, "^[0-9a-f]{64}$")
        self.assertEqual((made.status, made.events, made.description), ("active", VERDICTS, "shop"))
        self.assertEqual((made.consecutive_failures, made.last_delivery_at), (0, None))
        (listed,) = self.webhooks.list()
        self.assertEqual((listed.id, listed.url, listed.secret), (made.id, made.url, None))
        self.assertEqual(listed.secret_hint, "..." + made.secret[-4:])
        changed = self.webhooks.update(
            made.id, url="https://8.8.4.4/other", events=["validation.returned"], description=None
        )
        self.assertEqual((changed.url, changed.events), ("https://8.8.4.4/other", ["validation.returned"]))
        self.assertEqual((changed.description, changed.secret), (None, None))
        self.assertEqual(self.webhooks.update(made.id, status="disabled").status, "disabled")
        self.assertEqual(self.webhooks.update(made.id, status="active").status, "active")
        self.webhooks.delete(made.id)
        self.assertEqual(self.webhooks.list(), [])
        with self.assertRaises(NotFoundError):
            self.webhooks.delete(made.id)

    def test_another_accounts_endpoint_is_not_there(self):
        made = self.webhooks.create(url="https://8.8.8.8/hooks", events=VERDICTS)
        other = Veriko(key(2), max_retries=0).webhooks
        self.assertEqual(other.list(), [])
        for call in [other.delete, other.test, other.regenerate_secret, other.deliveries]:
            with self.assertRaises(NotFoundError):
                call(made.id)
        with self.assertRaises(NotFoundError):
            other.update(made.id, status="disabled")

    def test_what_no_endpoint_can_be_is_refused(self):
        for url, events in [("nonsense", VERDICTS), ("https://8.8.8.8", ["nonsense"]), ("ftp://8.8.8.8", VERDICTS)]:
            with self.subTest(url), self.assertRaises(InvalidRequestError) as raised:
                self.webhooks.create(url=url, events=events)
            self.assertTrue(raised.exception.code.startswith("webhook_"), raised.exception.code)

    def test_a_verdict_is_delivered_and_verified(self):
        receiver = self.receiver()
        made = self.webhooks.create(url=receiver.url, events=VERDICTS)
        validation = self.client.validate_transfer(**payment(client_ref="order 17"))
        delivery = receiver.next()
        event = self.verified(delivery, made.secret)
        self.assertEqual((event.event, event.validation.id), ("validation.completed", validation.id))
        self.assertEqual((event.validation.status, event.validation.client_ref), ("valid", "order 17"))
        self.assertEqual(event.validation.request_data, validation.request_data)
        self.assertIsNotNone(event.timestamp)
        with self.assertRaises(SignatureVerificationError):
            parse_webhook(delivery.body, signature_from_headers(delivery.headers), "0" * 64)

        self.client.validations.enqueue(**payment("-ERROR"))
        self.assertEqual(self.verified(receiver.next(), made.secret).event, "validation.error")

    def test_the_steps_of_a_cycle_are_delivered(self):
        receiver = self.receiver()
        made = self.webhooks.create(url=receiver.url, events=RETRIES)
        policy = RetryPolicy(max_retries=3, interval_seconds=1, outcomes=["not_found"])
        self.client.validate_transfer(**payment("-VALIDAFTER2", retry_policy=policy))
        told = []
        while not told or told[-1] != "validation.retry.resolved":
            told.append(self.verified(receiver.next(), made.secret).event)
        self.assertEqual(set(told), {"validation.retry.scheduled", "validation.retry.resolved"})

    def test_a_delivery_that_is_not_taken_is_tried_again_under_the_same_id(self):
        receiver = self.receiver(500, 503)
        made = self.webhooks.create(url=receiver.url, events=VERDICTS)
        validation = self.client.validate_transfer(**payment())
        tries = [receiver.next() for _ in range(3)]
        self.assertEqual(len({attempt.headers["X-Veriko-Delivery-Id"] for attempt in tries}), 1)
        self.assertEqual(len({attempt.body for attempt in tries}), 1)
        for attempt in tries:
            self.verified(attempt, made.secret)

        def taken():
            (delivery,) = self.webhooks.deliveries(made.id)
            return delivery if delivery.status == "success" else None

        delivery = self.eventually(taken)
        self.assertEqual((delivery.id, delivery.attempt), (tries[0].headers["X-Veriko-Delivery-Id"], 3))
        self.assertEqual((delivery.response_status, delivery.event_type), (200, "validation.completed"))
        self.assertEqual((delivery.validation_id, delivery.endpoint_id), (validation.id, made.id))
        self.assertIsNone(delivery.next_retry_at)

    def test_deliveries_are_filtered_and_gone_through(self):
        receiver = self.receiver()
        made = self.webhooks.create(url=receiver.url, events=VERDICTS)
        validations = [self.client.validate_transfer(**payment(words)) for words in ["", "-ERROR", "-NOTFOUND"]]
        for _ in validations:
            receiver.next()
        everything = self.eventually(
            lambda: (page := self.webhooks.deliveries(status="success")).total == 3 and page
        )
        self.assertEqual({item.endpoint_url for item in everything}, {receiver.url})
        for filters, found in [
            ({"event_type": "validation.error"}, {validations[1].id}),
            ({"validation_id": validations[2].id}, {validations[2].id}),
            ({"response_status": ["2xx", "none"]}, {validation.id for validation in validations}),
            ({"status": ["failed", "retrying"]}, set()),
            ({"min_attempt": 2}, set()),
            ({"to": "2025-01-01"}, set()),
        ]:
            with self.subTest(filters):
                listed = self.webhooks.deliveries([made.id], **filters)
                self.assertEqual({item.validation_id for item in listed}, found)
        gone_through = [item.id for item in self.webhooks.iter_deliveries(made.id, per_page=1)]
        self.assertEqual(gone_through, [item.id for item in everything])
        with self.assertRaises(InvalidRequestError) as raised:
            self.webhooks.deliveries(status="nonsense")
        self.assertEqual(raised.exception.code, "invalid_filter")

    def test_a_test_says_what_the_receiver_answered(self):
        receiver = self.receiver(200, 418)
        made = self.webhooks.create(url=receiver.url, events=VERDICTS)
        result = self.webhooks.test(made.id)
        self.assertEqual((result.delivered, result.http_status, result.error), (True, 200, None))
        self.assertGreaterEqual(result.response_time_ms, 0)
        delivery = receiver.next()
        self.assertTrue(verify_webhook(delivery.body, signature_from_headers(delivery.headers), made.secret))
        result = self.webhooks.test(made.id)
        self.assertEqual((result.delivered, result.http_status), (False, 418))
        self.assertEqual(self.webhooks.list()[0].consecutive_failures, 0)

    def test_a_new_secret_signs_from_now_on(self):
        receiver = self.receiver()
        made = self.webhooks.create(url=receiver.url, events=VERDICTS)
        rotated = self.webhooks.regenerate_secret(made.id)
        self.assertRegex(rotated.secret, "^[0-9a-f]{64}$")
        self.assertNotEqual(rotated.secret, made.secret)
        self.client.validate_transfer(**payment())
        delivery = receiver.next()
        self.verified(delivery, rotated.secret)
        self.assertFalse(verify_webhook(delivery.body, signature_from_headers(delivery.headers), made.secret))

    def test_an_endpoint_that_keeps_failing_is_disabled_and_can_be_made_active_again(self):
        receiver = self.receiver(*[500] * 3)
        made = self.webhooks.create(url=receiver.url, events=VERDICTS)
        self.client.validate_transfer(**payment())
        endpoint = self.eventually(lambda: (listed := self.webhooks.list()[0]).is_auto_disabled and listed)
        self.assertGreaterEqual(endpoint.consecutive_failures, 3)
        (failed,) = self.webhooks.deliveries(status="failed")
        self.assertEqual((failed.response_status, failed.attempt), (500, 3))
        active = self.webhooks.update(made.id, status="active")
        self.assertEqual((active.status, active.consecutive_failures), ("active", 0))
        self.client.validate_transfer(**payment())
        self.eventually(lambda: self.webhooks.deliveries(made.id, status="success").total)

    def test_a_replay_tells_nobody_again(self):
        receiver = self.receiver()
        self.webhooks.create(url=receiver.url, events=VERDICTS)
        asked = payment(idempotency_key=uuid.uuid4().hex)
        for _ in range(3):
            self.client.validate_transfer(**asked)
        self.eventually(lambda: self.webhooks.deliveries(status="success").total)
        self.assertEqual(self.webhooks.deliveries().total, 1)
