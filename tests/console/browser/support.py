"""The console in a real browser, where any complaint of the page or of its policy fails the test."""

import re
import shutil
from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support import Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

API_KEY, ADMIN_API_KEY = "key-of-a-caller", "key-of-the-operator"
KEYS = {"API_KEY": API_KEY, "ADMIN_API_KEY": ADMIN_API_KEY}

VIEWS = ("try", "model", "live", "data")

EXPECTED = re.compile(r"Failed to load resource|ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING")
"""What Chromium writes of an answer with an error, and of a service that is away. The page shows both."""

WATCH_POLICY = """
    document.addEventListener('securitypolicyviolation',
        event => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""

MINUS = "\N{MINUS SIGN}"
NUMBER = re.compile(rf"^{MINUS}?[\d.,]+")

expect.set_options(timeout=30_000)  # the tests' other processes may have both processors

Scheme = Literal["light", "dark"]


class Console:
    """The page in a browser's window of its own.

    Args:
        browser: The browser.
        server: The service.
        width: Of the window.
        scheme: Colours that the user prefers.

    Attributes:
        page: The page.
        faults: Errors in the browser's console, and of the policy.
    """

    def __init__(self, browser: Browser, server: Server, width: int = 1280, scheme: Scheme = "light") -> None:
        self.faults: list[str] = []
        self._context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        self._context.add_init_script(WATCH_POLICY)
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(server.url, wait_until="load")

    def close(self) -> None:
        self._context.close()

    def give_key(self, key: str = API_KEY) -> None:
        """Answer the question for a key."""
        self.page.get_by_label("Key", exact=True).fill(key)
        self.page.get_by_role("button", name="Use the key").click()

    def show(self, view: str) -> Locator:
        """Go to a view by its tab."""
        self.page.get_by_role("tab", name=view.title()).click()
        panel = self.page.locator(f"#view-{view}")
        expect(panel).to_be_visible()
        return panel

    def field(self, name: str) -> Locator:
        """Control of a feature."""
        return self.page.get_by_label(re.compile(rf"^{name}( |$)"), exact=False).and_(
            self.page.locator("[id^=feature-]")
        )

    def prediction(self) -> float:
        """The prediction that is shown, once there is one."""
        big = self.page.locator(".big")
        expect(big).to_contain_text(NUMBER)
        found = NUMBER.match(big.inner_text())
        assert found is not None
        return float(found[0].replace(MINUS, "-").replace(",", ""))

    def settled(self) -> None:
        """Wait until the answer to what was typed is there."""
        self.page.wait_for_timeout(200)  # the page's own pause
        expect(self.page.locator(".try")).not_to_have_attribute("aria-busy", "true")

    def is_too_wide(self) -> bool:
        """Whether the page has to be scrolled sideways."""
        return self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")

    def violations(self) -> list[str]:
        """What axe-core finds wrong with what is visible."""
        found: Any = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {[node['html'][:120] for node in one['nodes']]}" for one in found]

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning") and not EXPECTED.search(message.text):
            self.faults.append(message.text)
