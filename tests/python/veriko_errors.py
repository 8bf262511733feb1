"""Failures, as the vendor's client raises them."""

import threading
import time
import unittest
import uuid

from veriko import Veriko
from veriko.errors import (
    AuthenticationError,
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    RateLimitError,
    ServerError,
)

from payments import key, payment


class Errors(unittest.TestCase):
    def setUp(self):
        self.client = Veriko(max_retries=0)

    def raised(self, kind, status, code, call, *arguments, **more):
        with self.assertRaises(kind) as raised:
            call(*arguments, **more)
        error = raised.exception
        self.assertIs(type(error), kind)
        self.assertEqual((error.status, error.code), (status, code))
        self.assertRegex(error.request_id, "^[0-9a-f]{12}$")
        self.assertEqual(error.headers["x-request-id"], error.request_id)
        self.assertTrue(error.detail)
        return error

    def test_who_is_nobody_is_not_let_in(self):
        nobody = Veriko("veriko_" + "9" * 64, max_retries=0)
        self.raised(AuthenticationError, 401, "unauthorized", nobody.account.my_profile)

    def test_either_prefix_of_a_key_is_taken(self):
        self.assertEqual(Veriko("veriko_" + "1" * 64).account.my_profile()["id"], "demo-pro")

    def test_who_may_not_is_refused(self):
        read_only = Veriko(key(4), max_retries=0)
        self.raised(ForbiddenError, 403, "forbidden", read_only.validate_transfer, **payment())
        somebody = str(uuid.uuid4())
        self.raised(ForbiddenError, 403, "forbidden", read_only.validations.cancel_retries, somebody)

    def test_what_is_anothers_is_not_there(self):
        validation = self.client.validate_transfer(**payment("-NOTFOUND"))
        other = Veriko(key(2), max_retries=0).validations
        for call in [other.get, other.cancel_retries, other.retry_attempts, other.cep]:
            self.raised(NotFoundError, 404, "not_found", call, validation.id)
        self.raised(NotFoundError, 404, "not_found", other.get, str(uuid.uuid4()))
        self.raised(InvalidRequestError, 422, "invalid_uuid", other.get, "nonsense")

    def test_all_that_is_wrong_with_a_payment_is_said(self):
        wrong = {"fecha": "15-03-2025", "monto": -1, "cuenta_beneficiaria": "012180004412345670"}
        error = self.raised(
            InvalidRequestError, 422, "invalid_date", self.client.validate_transfer, **payment(**wrong)
        )
        self.assertEqual(error.pointer, "/data/attributes/fecha")
        said = {entry["source"]["pointer"].rsplit("/", 1)[1]: entry["code"] for entry in error.errors}
        self.assertEqual(
            said,
            {
                "fecha": "invalid_date",
                "monto": "invalid_amount",
                "cuenta_beneficiaria": "invalid_clabe_checksum",
            },
        )
        details = {entry["detail"] for entry in error.errors}
        spanish = Veriko(max_retries=0, accept_language="es")
        error = self.raised(
            InvalidRequestError, 422, "invalid_date", spanish.validate_transfer, **payment(**wrong)
        )
        self.assertTrue(details.isdisjoint(entry["detail"] for entry in error.errors))

    def test_a_body_that_is_too_large_is_refused(self):
        much = payment(client_ref="x" * 400_000)
        self.raised(InvalidRequestError, 413, "body_too_large", self.client.validate_transfer, **much)

    def test_a_key_that_is_none_is_refused(self):
        self.raised(
            InvalidRequestError,
            400,
            "invalid_idempotency_key",
            self.client.validate_transfer,
            **payment(),
            idempotency_key="not a key",
        )

    def test_a_key_that_was_used_for_something_else_is_refused(self):
        self.client.validate_transfer(**payment(), idempotency_key="used")
        self.raised(
            InvalidRequestError,
            422,
            "idempotency_key_reused",
            self.client.validate_transfer,
            **payment(),
            idempotency_key="used",
        )

    def test_a_key_in_use_is_a_conflict(self):
        answers = []

        def ask(asked):
            try:
                answers.append(Veriko(max_retries=0).validate_transfer(**asked).status)
            except ConflictError as error:
                answers.append(error)

        deadline = time.monotonic() + 60
        # On a machine so busy that one begins half a second after the other, there is none.
        while not any(isinstance(answer, ConflictError) for answer in answers):
            self.assertLess(time.monotonic(), deadline, answers)
            asked = payment("-SLOW500", idempotency_key=uuid.uuid4().hex)
            threads = [threading.Thread(target=ask, args=[asked]) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        conflict = next(answer for answer in answers if isinstance(answer, ConflictError))
        self.assertEqual((conflict.status, conflict.code), (409, "idempotency_key_in_progress"))
        self.assertGreaterEqual(int(conflict.headers["retry-after"]), 1)
        self.assertIn("valid", answers)

    def test_banxico_refusing_for_volume_is_the_servers_error_and_costs_nothing(self):
        self.raised(
            ServerError,
            503,
            "banxico_rate_limit_exhausted",
            self.client.validate_transfer,
            **payment("-RATELIMITED"),
        )
        self.assertEqual((self.client.validations.list().total, self.client.usage.summary().used), (0, 0))


class Limits(unittest.TestCase):
    """On a server where the plan basic has one validation a month, and free five requests a minute."""

    def test_a_spent_quota_says_when_there_is_a_new_one(self):
        client = Veriko(key(2), max_retries=0)
        asked = payment("-NOTFOUND", idempotency_key="the-last-one")
        first = client.validate_transfer(**asked)
        for call in [client.validate_transfer, client.validations.enqueue]:
            with self.assertRaises(RateLimitError) as raised:
                call(**payment())
            self.assertEqual((raised.exception.status, raised.exception.code), (429, "quota_exceeded"))
            self.assertGreater(raised.exception.retry_after, 0)
        self.assertEqual(client.validate_transfer(**asked).raw, first.raw, "a replay costs nothing")
        summary = client.usage.summary()
        self.assertEqual((summary.used, summary.remaining, summary.tone), (1, 0, "danger"))

    def test_too_many_requests_say_when_to_come_back(self):
        client = Veriko(key(3), max_retries=0)
        with self.assertRaises(RateLimitError) as raised:
            for _ in range(20):
                client.account.my_profile()
        error = raised.exception
        self.assertEqual((error.status, error.code), (429, "rate_limit_exceeded"))
        self.assertTrue(1 <= error.retry_after <= 12, error.retry_after)
        self.assertEqual(error.meta["retry_after"], error.retry_after)
        self.assertEqual((error.headers["x-ratelimit-limit"], error.headers["x-ratelimit-remaining"]), ("5", "0"))

    def test_the_client_itself_comes_back_in_time(self):
        waited = []

        def sleep(seconds):
            waited.append(seconds)
            time.sleep(seconds)

        client = Veriko(key(3), max_retries=2)
        client._transport._sleep = sleep
        for _ in range(7):
            client.account.my_profile()
        self.assertTrue(waited, "five were allowed at once")
