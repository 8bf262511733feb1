"""Validations, through the vendor's client."""

import unittest
import xml.etree.ElementTree as ElementTree

from veriko import Veriko
from veriko.errors import APIError, InvalidRequestError, NotFoundError

from payments import payment


class Validations(unittest.TestCase):
    def setUp(self):
        self.client = Veriko(max_retries=0)

    def test_a_payment_that_arrived_is_valid_and_complete(self):
        asked = payment(emisor="BANAMEX", receptor="BBVA MEXICO", client_ref="order 17")
        validation = self.client.validate_transfer(**asked)
        self.assertEqual((validation.status, validation.banxico_status), ("valid", "valid"))
        self.assertEqual((validation.validation_type, validation.is_playground), ("direct", False))
        self.assertEqual(validation.client_ref, "order 17")
        self.assertEqual(validation.request_data["clave_rastreo"], asked["clave_rastreo"])
        self.assertEqual(validation.request_data["monto"], 1500.5)
        self.assertTrue(validation.is_terminal and validation.is_settled and validation.has_cep)
        self.assertIsNone(validation.error_code)
        self.assertGreaterEqual(validation.processing_time_ms, 0)
        self.assertLessEqual(validation.created_at, validation.completed_at)
        read = self.client.get_validation(validation.id)
        self.assertEqual((read.attributes, read.links), (validation.attributes, validation.links))

    def test_each_verdict_is_read(self):
        for words, status, has_cep in [
            ("", "valid", True),
            ("-NOTFOUND", "not_found", False),
            ("-UNAVAILABLE", "cep_unavailable", False),
            ("-ERROR", "error", False),
            ("-RETURNED", "returned", False),
            ("-SLOW500-NOTFOUND", "not_found", False),
        ]:
            with self.subTest(words):
                validation = self.client.validations.validate(**payment(words))
                self.assertEqual((validation.status, validation.has_cep), (status, has_cep))
                self.assertEqual(validation.error_code is not None, status == "error")
                self.assertTrue(validation.is_settled)

    def test_a_payment_is_found_by_its_reference_alone(self):
        asked = payment(referencia_numerica="1234567")
        del asked["clave_rastreo"]
        validation = self.client.validations.validate(**asked)
        self.assertEqual(validation.status, "valid")
        self.assertEqual(validation.request_data["referencia_numerica"], "1234567")

    def test_what_is_queued_is_waited_for(self):
        for words, status in [("-SLOW500", "valid"), ("-NOTFOUND", "not_found")]:
            queued = self.client.validations.enqueue(**payment(words, client_ref="queued"))
            self.assertEqual((queued.status, queued.etag), ("queued", 'W/"0-queued"'))
            self.assertTrue(queued.location.endswith("/v1/validations/" + queued.id))
            self.assertGreater(queued.next_poll_after_seconds, 0)
            settled = self.client.validations.wait_for(queued.id, timeout=60, poll_interval=0.05)
            self.assertEqual((settled.id, settled.status), (queued.id, status))
            self.assertEqual(settled.client_ref, "queued")

    def test_what_has_not_changed_is_not_read_again(self):
        validation = self.client.validate_transfer(**payment("-NOTFOUND"))
        read = self.client.validations.get(validation.id)
        self.assertRegex(read.etag, r'^W/"\d+-not_found"$')
        with self.assertRaises(APIError) as raised:
            self.client.validations.get(validation.id, if_none_match=read.etag)
        self.assertEqual(raised.exception.status, 304)
        self.assertEqual(self.client.validations.get(validation.id, if_none_match='"other"').id, validation.id)

    def test_the_cep_is_downloaded_in_both_formats(self):
        asked = payment()
        validation = self.client.validate_transfer(**asked)
        xml = self.client.get_cep(validation.id)
        self.assertEqual((xml.format, xml.content_type), ("xml", "application/xml"))
        self.assertEqual(xml.filename, "CEP-" + validation.id + ".xml")
        self.assertEqual(ElementTree.fromstring(xml.content).get("claveRastreo"), asked["clave_rastreo"])
        pdf = self.client.validations.cep(validation.id, format="pdf")
        self.assertEqual((pdf.content_type, pdf.content[:5]), ("application/pdf", b"%PDF-"))
        self.assertEqual(pdf.filename, "CEP-" + validation.id + ".pdf")

    def test_where_there_is_no_cep_the_client_says_so(self):
        validation = self.client.validate_transfer(**payment("-NOTFOUND"))
        with self.assertRaises(NotFoundError) as raised:
            self.client.get_cep(validation.id, format="pdf")
        self.assertEqual(raised.exception.code, "cep_not_available")


class Lists(unittest.TestCase):
    def setUp(self):
        self.client = Veriko(max_retries=0)
        self.made = [
            self.client.validate_transfer(**payment(words, monto=amount, client_ref=reference))
            for words, amount, reference in [
                ("-NOTFOUND", "10.00", "one"),
                ("-ERROR", "20.00", "two"),
                ("", "30.01", "three"),
                ("-NOTFOUND", "40.00", "one"),
                ("-RETURNED", "50.00", "five"),
            ]
        ]

    def found(self, **filters):
        """Which of those made are in the list, in the order in which they were made."""
        page = self.client.validations.list(per_page=50, **filters)
        listed = [item.id for item in page]
        made = [validation.id for validation in self.made]
        self.assertEqual((page.total, len(page)), (len(listed), len(listed)))
        self.assertEqual(listed, [id for id in reversed(made) if id in listed], "the latest first")
        return [place for place, id in enumerate(made) if id in listed]

    def test_an_item_is_read_as_the_client_reads_it(self):
        item, made = self.client.validations.list(per_page=1)[0], self.made[-1]
        self.assertEqual((item.id, item.status, item.banxico_status), (made.id, "returned", made.banxico_status))
        self.assertEqual((item.amount, item.client_ref, item.validation_type), (50.0, "five", "direct"))
        self.assertEqual(item.tracking_key, made.request_data["clave_rastreo"])
        self.assertEqual(item.beneficiary_account, "012180004412345678")
        self.assertEqual((item.created_at, item.deleted_at), (made.created_at, None))
        self.assertEqual((item.is_playground, item.retry_state.enabled), (False, False))
        self.assertTrue(item.bank_name)
        self.assertEqual(item.referencia_numerica, "")

    def test_each_filter_lets_through_what_it_says(self):
        today = self.made[0].created_at[:10]
        for filters, found in [
            ({}, [0, 1, 2, 3, 4]),
            ({"status": "not_found"}, [0, 3]),
            ({"status": ["not_found", "error"]}, [0, 1, 3]),
            ({"type": "direct"}, [0, 1, 2, 3, 4]),
            ({"type": "ocr"}, []),
            ({"client_ref": "one"}, [0, 3]),
            ({"client_ref": "one", "amount_min": 40}, [3]),
            ({"amount_max": 30.00}, [0, 1]),
            ({"amount_min": 20, "amount_max": 30.01}, [1, 2]),
            ({"search": self.made[2].request_data["clave_rastreo"]}, [2]),
            # Midnight may come between.
            ({"from_": today}, [0, 1, 2, 3, 4]),
            ({"to": "2025-01-01"}, []),
            ({"from_": "2099-01-01"}, []),
            ({"retry_state": "pending"}, []),
        ]:
            with self.subTest(filters):
                self.assertEqual(self.found(**filters), found)

    def test_a_filter_that_means_nothing_is_refused(self):
        for filters in [{"status": "nonsense"}, {"from_": "yesterday"}, {"amount_min": "much"}]:
            with self.subTest(filters), self.assertRaises(InvalidRequestError) as raised:
                self.client.validations.list(**filters)
            self.assertEqual((raised.exception.status, raised.exception.code), (422, "invalid_filter"))

    def test_pages_are_gone_through_to_the_end_and_once(self):
        all_of_them = [validation.id for validation in reversed(self.made)]
        page = self.client.validations.list(page=2, per_page=2)
        self.assertEqual((page.page, page.per_page, page.total, page.total_pages), (2, 2, 5, 3))
        self.assertEqual([item.id for item in page], all_of_them[2:4])
        self.assertTrue(page.has_next)
        self.assertEqual([item.id for item in self.client.validations.iter(per_page=2)], all_of_them)
        three = self.client.validations.iter(per_page=1, max_pages=3)
        self.assertEqual([item.id for item in three], all_of_them[:3])
        found = self.client.validations.iter(per_page=1, client_ref="one")
        self.assertEqual([item.id for item in found], [self.made[3].id, self.made[0].id])
