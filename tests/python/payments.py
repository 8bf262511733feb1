"""Payments to ask about."""

import uuid


def payment(words="", **others):
    """One that the sandbox answers by the last words of its tracking key."""
    asked = {
        "fecha": "2025-03-15",
        "monto": "1500.50",
        "clave_rastreo": uuid.uuid4().hex[:10].upper() + words,
        "cuenta_beneficiaria": "012180004412345678",
    }
    return {**asked, **others}
