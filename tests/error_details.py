"""Shows the details and the hint of an error of ours that fails a test: its text is the message alone."""

from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    from penstock.api.errors import PenstockError

    report = yield
    if call.excinfo is not None and isinstance(error := call.excinfo.value, PenstockError) and report.failed:
        report.sections.append(("details of the error", "\n".join((*error.details, f"hint: {error.hint}"))))
    return report
