"""What is in a document: bytes that are made when they are read, or an uploaded file."""

import random
import weakref
from collections.abc import Iterator
from typing import IO, Protocol

BLOCK = 65_536
_LINE = 4096
_HEAD = b"%PDF-1.4\n"


class Content(Protocol):
    """The bytes of a document; `blocks` can be read any number of times, also at once."""

    @property
    def size(self) -> int: ...

    def blocks(self) -> Iterator[bytes]: ...


class GeneratedPdf:
    """A PDF of one page and any size from `Made.smallest(title)` on; equal titles and sizes give equal bytes."""

    def __init__(self, title: str, size: int) -> None:
        self.title = title
        self.size = max(size, self.smallest(title))

    @classmethod
    def smallest(cls, title: str) -> int:
        """The bytes that a PDF with this title needs."""
        return len(_HEAD) + len(_tail(title, 0))

    def blocks(self) -> Iterator[bytes]:
        """Header, a comment that fills it up, then the page and the table of where everything is."""
        filler = self.size - self.smallest(self.title)
        yield _HEAD
        yield from _comments(random.Random(self.title), filler)
        yield _tail(self.title, len(_HEAD) + filler)


class UploadedFile:
    """A file as it came; it is closed once nobody refers to it, be it deleted while it is being read."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.size = size
        self._file = file
        weakref.finalize(self, file.close)

    def blocks(self) -> Iterator[bytes]:
        """The file from its beginning; each block seeks, since others may be reading too."""
        for at in range(0, self.size, BLOCK):
            self._file.seek(at)
            yield self._file.read(BLOCK)


def _comments(rng: random.Random, size: int) -> Iterator[bytes]:
    """Numbered lines of PDF comment: no two are alike, so that a reader who mixes blocks up is found out."""
    salt = f"{rng.getrandbits(192):048x}" * (_LINE // 48 + 1)
    rest = f" {salt[: _LINE - 15]}\n"
    for start in range(0, size, BLOCK):
        lines = (f"%{start + at:012d}{rest}" for at in range(0, min(BLOCK, size - start), _LINE))
        block = "".join(lines).encode()
        left = size - start
        yield block if left >= len(block) else block[: left - 1] + b"\n"


def _tail(title: str, offset: int) -> bytes:
    """The objects of a PDF that begins `offset` bytes before, with offsets of one width whatever the size."""
    safe = title.encode("ascii", "replace").decode().replace("\\", " ").replace("(", "[").replace(")", "]")
    text = f"BT /F1 14 Tf 72 720 Td ({safe}) Tj ET"
    objects = (
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        " /Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(text)} >>\nstream\n{text}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    body, table = "", "0000000000 65535 f \n"
    for number, content in enumerate(objects, start=1):
        table += f"{offset + len(body):010d} 00000 n \n"
        body += f"{number} 0 obj\n{content}\nendobj\n"
    count = len(objects) + 1
    trailer = f"trailer\n<< /Size {count} /Root 1 0 R >>\nstartxref\n{offset + len(body):010d}\n%%EOF\n"
    return f"{body}xref\n0 {count}\n{table}{trailer}".encode()
