"""Validations, through the vendor's client."""

import unittest

from veriko import Veriko

from payments import payment


class Validate(unittest.TestCase):
    def setUp(self):
        self.client = Veriko(max_retries=0)

    def test_a_payment_that_arrived_is_valid(self):
        validation = self.client.validate_transfer(**payment())
        self.assertEqual(validation.status, "valid")

    def test_each_verdict_is_read(self):
        for words, status in [
            ("-NOTFOUND", "not_found"),
            ("-UNAVAILABLE", "cep_unavailable"),
            ("-ERROR", "error"),
            ("-RETURNED", "returned"),
            ("-SLOW500-NOTFOUND", "not_found"),
        ]:
            with self.subTest(words):
                self.assertEqual(self.client.validate_transfer(**payment(words)).status, status)
