"""Nothing in, a root and a signing certificate of this user's own out, good for ten years.

Such a root is on no public list: it says "signed by you", not "by an accredited signer". Without a
time stamp a signature is invalid from the day its certificate expires, hence the ten years.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from avgen.clips.files import atomic
from avgen.provenance.signer import CHAIN, KEY, ROOT, Identity, config_folder

YEARS = 10


def create(name: str, folder: Path | None = None, days: float = 365.25 * YEARS) -> Identity:
    """Make and store a root and a certificate signed by it, both P-256.

    Args:
        name: Whose: the common name in the certificate, which everybody can read.
        folder: Where to, the user's where None; its files are for their owner alone.
        days: For how long they are valid.
    """
    folder = folder or config_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    now = datetime.datetime.now(datetime.UTC)
    begins = now - datetime.timedelta(minutes=5)  # clocks differ

    def certificate(common: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_subject(common))
            .issuer_name(_subject(f"{name} (root)"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + datetime.timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), False
            )
        )

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = (
        certificate(f"{name} (root)", root_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(_usage(signs_certificates=True), True)
        .sign(root_key, hashes.SHA256())
    )
    purposes = [  # what C2PA readers ask of a signer: claim signing, or e-mail protection
        ExtendedKeyUsageOID.EMAIL_PROTECTION,
        ObjectIdentifier("1.3.6.1.4.1.62558.2.1"),
    ]
    leaf = (
        certificate(name, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(_usage(signs_certificates=False), True)
        .add_extension(x509.ExtendedKeyUsage(purposes), False)
        .sign(root_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    made = Identity(leaf.public_bytes(pem) + root.public_bytes(pem), secret, root.public_bytes(pem))
    for file, content in ((CHAIN, made.chain), (KEY, made.key), (ROOT, made.root)):
        with atomic(folder / file) as temporary:
            temporary.touch(0o600)
            temporary.write_bytes(content)
    return made


def _subject(common: str) -> x509.Name:
    names = {NameOID.ORGANIZATION_NAME: "avgen, local certificate", NameOID.COMMON_NAME: common}
    return x509.Name([x509.NameAttribute(oid, name) for oid, name in names.items()])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
