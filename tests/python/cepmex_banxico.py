"""Banxico's site, through the public client cepmex and through the server: both read the same."""

import datetime
import json
import os
import re
import unittest
import urllib.error
import urllib.request

import cep
from cep import exc

# The client's own code as it is; only where the site is comes from outside.
cep.Client.base_url = os.environ["CEP_BASE_URL"]

SERVER = os.environ["VERIKO_BASE_URL"]
HEADERS = {"Authorization": "Bearer " + os.environ["VERIKO_API_KEY"], "Content-Type": "application/json"}
KEY = os.environ.get("ASKED_KEY", "MXBA20250315001234")
DAY = os.environ.get("ASKED_DAY", "2025-03-15")


def ask_site():
    return cep.Transferencia.validar(
        fecha=datetime.date.fromisoformat(DAY),
        clave_rastreo=KEY,
        emisor="40002",
        receptor="40012",
        cuenta="012180004412345678",
        monto=341490,
    )


def ask_server():
    """What the server answers about the same payment, and its status or code."""
    body = {
        "fecha": DAY,
        "monto": 3414.9,
        "clave_rastreo": KEY,
        "emisor": "40002",
        "receptor": "40012",
        "cuenta_beneficiaria": "012180004412345678",
    }
    try:
        answer = json.loads(fetch("/validate", json.dumps(body).encode()))["data"]
    except urllib.error.HTTPError as error:
        return None, json.load(error)["errors"][0]["code"]
    return answer, answer["attributes"]["status"]


def fetch(path, data=None):
    with urllib.request.urlopen(urllib.request.Request(SERVER + path, data, HEADERS)) as response:
        return response.read()


def shown(pdf):
    """The lines of the page, as they are written in the file."""
    lines = []
    for plain, coded in re.findall(rb"(?:\((.*)\)|<([0-9A-F]+)>) Tj", pdf):
        line = bytes.fromhex(coded.decode()) if coded else re.sub(rb"\\(.)", rb"\1", plain)
        lines.append(line.decode("cp1252"))
    return lines


class Cepmex(unittest.TestCase):
    def test_a_cep_is_read_the_same(self):
        read = ask_site()
        validation, status = ask_server()
        self.assertEqual(status, "valid")
        path = "/validations/" + validation["id"] + "/cep"
        self.assertEqual(fetch(path), read.descargar("XML"))

        lines = shown(fetch(path + "?format=pdf"))
        values = [
            read.fecha_operacion.isoformat(),
            read.fecha_abono.time().isoformat(),
            read.clave_rastreo,
            read.concepto,
            f"{read.monto / 100:.2f}",
            f"{read.iva:.2f}",
            read.sello,
        ]
        for side in (read.ordenante, read.beneficiario):
            values += [side.banco, side.nombre, side.tipo_cuenta, side.numero, side.rfc]
        for value in values:
            self.assertIn(value, lines)
        for format, start in [("PDF", b"%PDF"), ("ZIP", b"PK")]:
            self.assertTrue(read.descargar(format).startswith(start))

    def test_what_is_no_cep_means_the_same(self):
        raised, expected = os.environ["RAISED"], os.environ["STATUS"]
        with self.assertRaises(exc.CepError) as caught:
            ask_site()
        self.assertEqual(type(caught.exception).__name__, raised)
        self.assertEqual(ask_server()[1], expected)


if __name__ == "__main__":
    unittest.main()
