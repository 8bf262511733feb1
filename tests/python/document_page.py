"""The reference page, in a browser."""

import json
import os
import tempfile
import unittest
import urllib.request
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

SERVER = os.environ["SERVER_URL"]
KEY = os.environ["VERIKO_API_KEY"]


class Page(unittest.TestCase):
    def setUp(self):
        profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(profile.cleanup)
        options = webdriver.ChromeOptions()
        options.binary_location = os.environ["TEST_CHROMIUM"]
        for flag in [
            "--headless=new",
            "--no-sandbox",  # which root must do without
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={profile.name}",
            "--window-size=1280,2000",
        ]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = os.environ["TEST_CHROMEDRIVER"]
        self.browser = webdriver.Chrome(options=options, service=Service(driver))
        self.addCleanup(self.browser.quit)
        self.browser.get(f"{SERVER}/docs")
        with urllib.request.urlopen(f"{SERVER}/openapi.json") as answer:
            self.document = json.load(answer)
        self.one(".opblock")

    def test_every_operation_is_listed_and_nothing_comes_from_elsewhere(self):
        described = {
            (method.upper(), path)
            for path, item in self.document["paths"].items()
            for method in item
        }
        listed = {
            (
                block.find_element(By.CSS_SELECTOR, ".opblock-summary-method").text,
                block.find_element(By.CSS_SELECTOR, ".opblock-summary-path").get_attribute("data-path"),
            )
            for block in self.all(".opblock")
        }
        self.assertEqual(listed, described)
        self.assertIn(self.document["info"]["title"], self.browser.title)
        # One of each tag, one at a time: with all of them open, a browser is slow.
        controls = self.all(".operation-tag-content > span:first-of-type .opblock-summary-control")
        self.assertEqual(len(controls), len(self.document["tags"]))
        for control in controls:
            control.click()
            self.one(".responses-wrapper")
            control.click()
            WebDriverWait(self.browser, 30).until_not(lambda _: self.all(".responses-wrapper"))
        self.see_that_nothing_went_wrong()

    def test_an_operation_is_tried_with_a_key(self):
        self.one(".auth-wrapper .authorize").click()
        self.one(".modal-ux input").send_keys(KEY)
        self.one(".modal-ux .auth-btn-wrapper .authorize").click()
        self.one(".modal-ux .btn-done").click()
        for operation in ["getMyRetryPolicy", "validateDirect"]:
            with self.subTest(operation):
                block = f"[id$=-{operation}]"
                self.one(f"{block} .opblock-summary-control").click()
                self.one(f"{block} .try-out__btn").click()
                self.one(f"{block} .execute").click()
                status = self.one(f"{block} .live-responses-table .response .response-col_status")
                self.assertEqual(status.text.split()[0], "200", self.one(block).text)
        self.see_that_nothing_went_wrong()

    def see_that_nothing_went_wrong(self):
        if folder := os.environ.get("SCREENSHOTS"):
            self.browser.save_screenshot(f"{folder}/{self._testMethodName}.png")
        said = [entry["message"] for entry in self.browser.get_log("browser")]
        self.assertEqual(said, [])
        events = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        asked = [
            urlsplit(event["params"]["request"]["url"])
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        self.assertIn(f"{SERVER}/openapi.json", [url.geturl() for url in asked])
        # The browser's own pages are in it.
        here = ("chrome", "chrome-untrusted", "data")
        elsewhere = [url for url in asked if url.scheme not in here and url.netloc != urlsplit(SERVER).netloc]
        self.assertEqual(elsewhere, [])

    def one(self, selector):
        return WebDriverWait(self.browser, 30).until(
            lambda browser: browser.find_element(By.CSS_SELECTOR, selector)
        )

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)
