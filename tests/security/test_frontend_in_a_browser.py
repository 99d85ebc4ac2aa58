"""Connect from a frontend of another site in a real browser: Chromium, over HTTPS, with two host names."""

from __future__ import annotations

import datetime
import shutil
import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from softpro_demo.stack import free_port

from ..support.api_server import PREFIX, ApiServer, Certificate, running
from ..support.databases import Server
from ..support.product import environment
from ..support.sandbox import Sandbox, running_sandbox

API_HOST, FRONTEND_HOST = "api.roi.test", "app.customer.test"
CHROMIUM = shutil.which("chromium")
PAGE = b"""<!doctype html><title>frontend</title><script>
async function connect(api, token, organizationId) {
  const answer = await fetch(api + "/connect", {
    method: "POST",
    headers: {"Authorization": "Bearer " + token, "Content-Type": "application/json"},
    body: JSON.stringify({organizationId, redirectPath: "/settings"}),
  });
  location.href = (await answer.json()).data.browserUrl;
}
</script>"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a key and a certificate that the browser is told to accept."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in (API_HOST, FRONTEND_HOST)]), False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


class _Frontend(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def frontend(certificate: Path) -> Iterator[str]:
    """Serve the frontend, and return its origin."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Frontend)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://{FRONTEND_HOST}:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def port() -> int:
    return free_port(0)


@pytest.fixture(scope="module")
def vendor(port: int) -> Iterator[Sandbox]:
    """Start a sandbox that knows our callback."""
    callback = f"https://{API_HOST}:{port}{PREFIX}/callback"
    with running_sandbox(organizations=1, transactions=1, contacts=1, redirect_uri=callback) as started:
        yield started


@pytest.fixture(scope="module")
def api(server: Server, vendor: Sandbox, certificate: Path, frontend: str, port: int) -> Iterator[ApiServer]:
    with server.fresh() as database:
        settings = environment(database, vendor, FRONTEND_URL=frontend, SOFTPRO_ALLOWED_ORIGINS=frontend)
        with running(settings, Certificate(API_HOST, certificate), port) as started:
            yield started


def test_a_frontend_of_another_site_connects_an_organization(api: ApiServer, frontend: str) -> None:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "this test needs Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--ignore-certificate-errors", "--host-resolver-rules=MAP *.test 127.0.0.1"],
        )
        try:
            page = browser.new_page(ignore_https_errors=True)
            page.goto(frontend)
            arguments = [api.url, api.tokens["admin"], "from-elsewhere"]
            page.evaluate("arguments => { connect(...arguments) }", arguments)
            page.wait_for_url("**/oauth/authorize**")
            page.click("button[value=allow]")
            page.wait_for_url(f"{frontend}/**")
            landed = page.url
            cookies = {each["name"] for each in page.context.cookies(api.url)}
        finally:
            browser.close()

    assert urlsplit(landed).path == "/settings"
    assert parse_qs(urlsplit(landed).query) == {"integration": ["softpro"], "status": ["connected"]}
    assert not [name for name in cookies if "softpro_connect" in name]  # it was deleted afterwards
