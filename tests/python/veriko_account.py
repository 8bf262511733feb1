"""The account, its usage and the catalogue, through the vendor's client."""

import unittest

from veriko import Veriko
from veriko.errors import APIError

from payments import key, payment


class Account(unittest.TestCase):
    def setUp(self):
        self.client = Veriko(max_retries=0)

    def test_the_profile_names_account_plan_and_permissions(self):
        profile = self.client.account.my_profile()
        self.assertEqual((profile["id"], profile["status"]), ("demo-pro", "active"))
        self.assertEqual(profile["subscription"]["plan_slug"], "pro")
        self.assertIn("validations:create", profile["permissions"])
        self.assertEqual(self.client.account.profile(), profile)
        read_only = Veriko(key(4)).account.my_profile()
        self.assertEqual((read_only["id"], read_only["permissions"]), ("demo-readonly", ["webhooks:read"]))

    def test_the_summary_counts_each_validation_once(self):
        before = self.client.usage.summary()
        self.assertEqual((before.plan_slug, before.plan_name), ("pro", "Pro"))
        self.assertEqual((before.limit, before.used, before.remaining), (50000, 0, 50000))
        self.assertEqual((before.used_percent, before.tone), (0, "ok"))
        self.assertEqual((before.quota_kind, before.renews), ("cycle", True))
        self.assertEqual(before.resets_at, before.next_reset_at)
        asked = payment("-NOTFOUND")
        for _ in range(3):
            self.client.validate_transfer(**asked, idempotency_key="once")
        self.client.validations.enqueue(**payment())
        after = self.client.usage.summary()
        self.assertEqual((after.used, after.remaining), (2, 49998))

    def test_the_limits_are_the_plans(self):
        limits = self.client.usage.limits()
        self.assertEqual(limits["rate_limits"]["api"]["key_per_minute"], 600)
        self.assertTrue(limits["notes"])

    def test_the_banks_are_read_once(self):
        banks = self.client.catalog.banks()
        bbva = next(bank for bank in banks if bank.code == "40012")
        self.assertEqual(bbva.name, "BBVA Mexico")
        self.assertIn("BBVA BANCOMER", bbva.aliases)
        with self.assertRaises(APIError) as raised:
            self.client.catalog.banks(if_none_match=banks.etag)
        self.assertEqual(raised.exception.status, 304)

    def test_how_banxico_does_is_told_in_the_callers_language(self):
        self.assertEqual(self.client.catalog.banxico_status()["status"], "unknown")
        self.client.validate_transfer(**payment())
        status = Veriko(accept_language="es").catalog.banxico_status()
        self.assertEqual((status["status"], status["status_label"]), ("operational", "Operativo"))
        self.assertIsNotNone(status["last_verified_at"])
        self.assertTrue(status["message"])
