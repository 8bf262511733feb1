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
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

SERVER = os.environ["SERVER_URL"]
ALL = "/openapi.json"

# Each API as the page names it: its document, a key, and operations to try with the examples they come with.
APIS = {
    "Veriko": (
        "/openapi/veriko.json", os.environ["VERIKO_API_KEY"], {"getMyRetryPolicy": "200", "validateDirect": "200"},
    ),
    "TXCloud": (
        "/openapi/txcloud.json",
        "txc_test_abc123def456",
        {
            "listVerifications": "200",
            "createVerification": "200",
            "createSession": "201",
            "scoreTransaction": "200",
            "createAssessment": "200",
            "verifyBusiness": "200",
            "screenEntity": "200",
        },
    ),
    "mintfax": (
        "/openapi/mintfax.json",
        "mfx_test_abc123def456",
        {"getBalance": "200", "updateFaxSettings": "200", "sendFax": "201", "listFaxes": "200"},
    ),
}


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

    def test_every_operation_is_listed_and_nothing_comes_from_elsewhere(self):
        self.browser.get(f"{SERVER}/docs")
        everything = self.see_that_all_is_listed("All", ALL)
        # One of each tag, one at a time: with all of them open, a browser is slow.
        controls = self.all(".operation-tag-content > span:first-of-type .opblock-summary-control")
        self.assertEqual(len(controls), len(self.document(ALL)["tags"]))
        for control in controls:
            control.click()
            self.one(".responses-wrapper")
            control.click()
            WebDriverWait(self.browser, 30).until_not(lambda _: self.all(".responses-wrapper"))
        for name, (path, _, _) in APIS.items():
            everything -= self.choose(name, path)
        self.assertEqual(everything, set())
        self.see_that_nothing_went_wrong()

    def test_each_api_is_chosen_and_tried_with_a_key_of_it(self):
        self.browser.get(f"{SERVER}/docs")
        for name, (path, key, operations) in APIS.items():
            self.choose(name, path)
            self.one(".auth-wrapper .authorize").click()
            self.one(".modal-ux input").send_keys(key)
            self.one(".modal-ux .auth-btn-wrapper .authorize").click()
            self.one(".modal-ux .btn-done").click()
            for operation, expected in operations.items():
                with self.subTest(operation):
                    block = f"[id$=-{operation}]"
                    self.one(f"{block} .opblock-summary-control").click()
                    self.one(f"{block} .try-out__btn").click()
                    self.fill_in(block)
                    self.one(f"{block} .execute").click()
                    status = self.one(f"{block} .live-responses-table .response .response-col_status")
                    self.assertEqual(status.text.split()[0], expected, self.one(block).text)
                    self.one(f"{block} .opblock-summary-control").click()
        self.see_that_nothing_went_wrong()

    def fill_in(self, block):
        """What no example can: a file. Nobody outside is to hear of a test."""
        for chosen in self.all(f"{block} input[type=file]"):
            document = tempfile.NamedTemporaryFile("w", suffix=".txt")
            self.addCleanup(document.close)
            document.write("A page.")
            document.flush()
            chosen.send_keys(document.name)
        for url in self.all(f"{block} input[placeholder=webhook_url]"):
            url.send_keys(Keys.CONTROL, "a", Keys.DELETE)

    def choose(self, name, path):
        """Chooses an API at the top of the page, as a reader does."""
        Select(self.one("#select")).select_by_visible_text(name)
        return self.see_that_all_is_listed(name, path)

    def see_that_all_is_listed(self, name, path):
        document = self.document(path)
        described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
        title = document["info"]["title"]
        WebDriverWait(self.browser, 30).until(
            lambda browser: any(title in shown.text for shown in self.all(".info .title")) and self.all(".opblock")
        )
        self.assertEqual(Select(self.one("#select")).first_selected_option.text, name)
        listed = self.browser.execute_script(
            """return [...document.querySelectorAll(".opblock")].map(block => [
                 block.querySelector(".opblock-summary-method").textContent,
                 block.querySelector(".opblock-summary-path").dataset.path,
               ])"""
        )
        self.assertEqual({tuple(operation) for operation in listed}, described)
        return described

    def document(self, path):
        with urllib.request.urlopen(f"{SERVER}{path}") as answer:
            return json.load(answer)

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
        self.assertIn(f"{SERVER}{ALL}", [url.geturl() for url in asked])
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
