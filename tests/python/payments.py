"""What tests ask about, and by whom."""

import uuid


def payment(words="", **others):
    """A payment that the sandbox answers by the last words of its tracking key."""
    asked = {
        "fecha": "2025-03-15",
        "monto": "1500.50",
        "clave_rastreo": uuid.uuid4().hex[:10].upper() + words,
        "cuenta_beneficiaria": "012180004412345678",
    }
    return {**asked, **others}


def key(digit):
    """The public demo key of this digit: 1 pro, 2 basic, 3 free, 4 read-only."""
    return "mxcep_" + str(digit) * 64
