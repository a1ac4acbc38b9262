"""Certificates for the tests: of an authority of their own, in files."""

import ssl
from pathlib import Path

import trustme


class Certificates:
    """An authority, and what it has signed for the server and for clients, as files in a folder."""

    def __init__(self, folder: Path, key_type: str = "ECDSA") -> None:
        """key_type: that of the server's key, ECDSA or RSA."""
        self._folder = folder
        self._key_type = trustme.KeyType[key_type]
        self._authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca))
        self.cert, self.key = folder / "server.pem", folder / "server.key"
        self.renew()

    def renew(self) -> None:
        """Another certificate for the server, with another key, in place of the one before."""
        issued = self._authority.issue_cert("127.0.0.1", "localhost", key_type=self._key_type)
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.cert.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))

    def client(self, name: str, organization: str = "echo & co, ltd") -> tuple[str, str]:
        """A client's certificate and key, in files, for a common name."""
        issued = self._authority.issue_cert(common_name=name, organization_name=organization)
        certificate, key = self._folder / "client.pem", self._folder / "client.key"
        certificate.write_bytes(issued.cert_chain_pems[0].bytes())
        key.write_bytes(issued.private_key_pem.bytes())
        return str(certificate), str(key)

    @property
    def options(self) -> tuple[str, ...]:
        """The server's."""
        return "--tls-cert", str(self.cert), "--tls-key", str(self.key)

    def trusting(self) -> ssl.SSLContext:
        """A client's context that trusts the authority."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.check_hostname = True
        return context
