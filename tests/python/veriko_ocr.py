"""Receipts that are pictures, through the vendor's client."""

import unittest
from pathlib import Path

from veriko import Veriko
from veriko.errors import APIError, ForbiddenError, InvalidRequestError

from payments import key

RECEIPTS = Path(__file__).parent.parent / "fixtures"


class Ocr(unittest.TestCase):
    def setUp(self):
        self.client = Veriko(max_retries=0)
        self.receipt = RECEIPTS / "receipt.png"

    def test_what_a_receipt_says_is_asked_about(self):
        for image in [self.receipt, str(self.receipt), self.receipt.read_bytes()]:
            validation = self.client.validations.validate_ocr(image=image, client_ref="picture")
            self.assertEqual((validation.validation_type, validation.status), ("ocr", "valid"))
            self.assertEqual(validation.client_ref, "picture")
            self.assertEqual(validation.request_data["clave_rastreo"], "MXBA20250315001234")
            self.assertTrue(validation.has_cep)
            self.assertIn(b"MXBA20250315001234", self.client.get_cep(validation.id).content)
            self.assertTrue(validation.image_retained)
            picture = self.client.validations.image(validation.id)
            self.assertEqual((picture.content, picture.content_type), (self.receipt.read_bytes(), "image/png"))
            self.assertEqual(picture.filename, f"comprobante-{validation.id}.png")

    def test_a_receipt_that_is_not_to_be_kept_is_not(self):
        validation = self.client.validations.validate_ocr(image=self.receipt, retain_image=False)
        self.assertIs(validation.image_retained, False)
        with self.assertRaises(APIError) as raised:
            self.client.validations.image(validation.id)
        self.assertEqual((raised.exception.status, raised.exception.code), (410, "image_not_retained"))

    def test_the_same_receipt_under_one_key_is_one_validation(self):
        asked = {"image": self.receipt, "idempotency_key": "one-receipt"}
        first, second = (self.client.validations.validate_ocr(**asked) for _ in range(2))
        self.assertEqual((first.id, first.raw), (second.id, second.raw))
        self.assertEqual(len(self.client.validations.list(type="ocr").items), 1)

    def test_a_receipt_in_the_queue_is_waited_for(self):
        queued = self.client.validations.enqueue_ocr(image=RECEIPTS / "receipt-not-found.png")
        self.assertEqual(queued.status, "queued")
        settled = self.client.validations.wait_for(queued.id, timeout=60, poll_interval=0.05)
        self.assertEqual((settled.validation_type, settled.status), ("ocr", "not_found"))

    def test_what_is_no_receipt_is_refused(self):
        for asked, code in [
            ({"image": b"GIF89a, or so it says"}, "invalid_image_format"),
            ({"image": self.receipt.read_bytes()[:1000]}, "invalid_image"),
            ({"image_url": "http://example.com/receipt.png"}, "invalid_url_scheme"),
            ({"image_url": "https://127.0.0.1/receipt.png"}, "url_ssrf_blocked"),
        ]:
            with self.subTest(code), self.assertRaises(InvalidRequestError) as raised:
                self.client.validations.validate_ocr(**asked)
            self.assertEqual((raised.exception.status, raised.exception.code), (422, code))

    def test_who_may_not_have_receipts_read_is_refused(self):
        with self.assertRaises(ForbiddenError):
            Veriko(key(4), max_retries=0).validations.validate_ocr(image=self.receipt)
