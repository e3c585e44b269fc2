"""An issuer that publishes its keys on loopback, and signs with them by PyJWT."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from .tokens import seconds

MAKERS = {
    "RS256": (lambda: rsa.generate_private_key(65537, 2048), RSAAlgorithm),
    "ES256": (lambda: ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "ES512": (lambda: ec.generate_private_key(ec.SECP521R1()), ECAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate, OKPAlgorithm),
}


class Key:
    """A key pair with an id."""

    def __init__(self, alg: str, kid: str):
        make, algorithm = MAKERS[alg]
        self.alg, self.kid, self.private = alg, kid, make()
        self.jwk = {**json.loads(algorithm.to_jwk(self.private.public_key())), "kid": kid, "alg": alg}

    def sign(self, user: str, **claims) -> str:
        body = {"sub": user, "exp": seconds(3600), **claims}
        return jwt.encode(body, self.private, algorithm=self.alg, headers={"kid": self.kid})


class Issuer:
    """Serves keys that may change; a context manager that stops."""

    def __init__(self, keys: list[Key], port: int = 0):
        self.keys = keys
        self.asked = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.asked += 1
                body = json.dumps({"keys": [key.jwk for key in issuer.keys]}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.listener = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.listener.server_address[1]
        self.thread = threading.Thread(target=self.listener.serve_forever, daemon=True)
        self.thread.start()

    def __enter__(self) -> "Issuer":
        return self

    def __exit__(self, *_) -> None:
        self.listener.shutdown()
        self.listener.server_close()
        self.thread.join()


def verified_by(port: int) -> dict:
    """The part of a configuration that has tokens verified by the issuer on this port alone."""
    return {
        "hmac_secret_key": "",
        "jwks_public_endpoint": f"http://127.0.0.1:{port}/keys",
        "insecure_skip_jwks_endpoint_safety_check": True,
    }
