"""A self-contained page with a script of its own: nothing else runs, nothing is loaded, and what it shows is data."""

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from dualform.reports.modules import joined


def scripted_page(
    template: str,
    script: str,
    styles: Sequence[str],
    generator: str,
    content: dict[str, Any],
    connect: str = "'none'",
    **more: Any,
) -> str:
    """The HTML of a page.

    **Arguments:** template, script, styles: files of reports/web, of the script its first module; generator: what the page says
    made it; content: what the script reads, with a "title"; connect: where it may read more from, in the words of a policy; more:
    what else the template takes.
    """
    web = files("dualform.reports") / "web"
    # Hashes are of the text as it stands in the page, so that nothing else runs.
    style = "".join((web / each).read_text("utf-8") for each in styles)
    code = joined(web, script)
    policy = (
        f"default-src 'none'; script-src {_hash(code)}; style-src {_hash(style)}; img-src data:; connect-src {connect}; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dualform.reports", "web"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(template).render(
        generator=generator,
        policy=Markup(policy),  # noqa: S704 - our own words and hashes
        title=content["title"],
        style=Markup(style),
        script=Markup(code),
        view=Markup(as_data(content)),
        **more,
    )


def as_data(content: object) -> str:
    """JSON in ASCII for a script element of type application/json: nothing in it can end the element or begin markup."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
