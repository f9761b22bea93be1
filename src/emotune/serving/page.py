"""The page of the server: one file, and the policy that allows its scripts and its style sheet alone."""

import re
from pathlib import Path

from emotune.reports.writer import policy_source

_PAGE = Path(__file__).parent / "page.html"
_SCRIPT = re.compile(r"<script[^>]*>(.*?)</script>", re.DOTALL)
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def page() -> tuple[str, str]:
    """Return the HTML of the page and its security policy.

    The page asks no other server. No script can turn a text into markup: the policy has no Trusted Types.
    """
    content = _PAGE.read_text(encoding="utf-8")
    scripts, styles = policy_sources(content)
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return content, policy


def policy_sources(content: str) -> tuple[str, str]:
    """Return the sources of a policy that allows the scripts, and those that allow the style sheets, of a page."""
    scripts, styles = (" ".join(map(policy_source, part.findall(content))) for part in (_SCRIPT, _STYLE))
    return scripts, styles
