"""List the words that records are generated from."""


def _split(text: str, between: str | None = None) -> tuple[str, ...]:
    """Split a text into words, or into the names between separators."""
    return tuple(" ".join(name.split()) for name in text.split(between))


GIVEN = _split(
    """
    Aaliyah Abigail Adrián Aiko Alejandra Amara Andre Anh Anna Anthony Aoife Benjamin Beyza Björn Brandon Brenda
    Caleb Camila Carlos Catherine Chloë Christopher Cynthia Daniel Danielle David Deborah Diego Dmitri Dorothy
    Elena Elijah Emily Emre Eric Fatima François Frank Gabriela George Grace Hannah Harold Hiroshi Ifeoma Imani
    Isaac Isabella James Jamal Janet Jason Jennifer Jessica Joanna João John José Joshua Karen Kathleen Keisha
    Kevin Khalid Kimberly Larry Latoya Laura Leilani Liam Linda Logan Lucía Łukasz Malik Marcus Margaret Maria
    Mark Mary Matthew Mei Melissa Michael Michelle Mohammed Nancy Naomi Nathan Nicole Nikhil Noah Olivia Omar
    Patricia Paul Priya Rachel Raj Rebecca Renée Richard Robert Rosa Ryan Samantha Samuel Sandra Sarah Scott
    Siobhán Sofia Søren Stephanie Steven Susan Tamika Thomas Timothy Tyrone Valentina Victoria Vikram Walter Wei
    William Xiomara Yolanda Yusuf Zachary Zainab Zoë
    """
)

FAMILY = _split(
    """
    Adams Ahmed Álvarez Anderson Bailey Baker Begay Bennett Brooks Brown Bui Campbell Carter Castillo Chang Chen
    Clark Cohen Collins Cooper Cruz Davis Delacroix Díaz Dubois Edwards Evans Fernández Fischer Fitzgerald Flores
    Foster García Gómez González Goldberg Green Gupta Gutiérrez Hall Hansen Harris Hernández Hill Huang Hughes
    Ibrahim Jackson Jensen Jiménez Johnson Jones Kelly Khan Kim King Kowalski Le Lee Lewis Li López Martin
    Martínez Mbeki McDonald Mendoza Miller Mitchell Moore Morales Müller Murphy Nakamura Nelson Nguyễn Núñez
    O'Brien O'Connor Okafor Okonkwo Olsen Ortiz Park Parker Patel Pérez Peterson Petrov Phillips Price Ramírez
    Reyes Richardson Rivera Roberts Robinson Rodríguez Romero Rossi Ruiz Sánchez Sato Schmidt Scott Shah Silva
    Singh Smith Sørensen Stewart Suzuki Tanaka Taylor Thompson Torres Tran Turner Vargas Vásquez Walker Wang Ward
    Washington Watson White Williams Wilson Wójcik Wong Wright Wu Yamamoto Yilmaz Young Zhang
    """
)

# Names in other scripts: CJK, right to left, Indic, Cyrillic, Greek, a decomposed accent, a surrogate pair.
OTHER_SCRIPTS = (
    ("小明", "王"),
    ("美咲", "佐藤"),
    ("지우", "김"),
    ("محمد", "الفارسي"),
    ("דוד", "כהן"),
    ("प्रिया", "शर्मा"),
    ("Александра", "Иванова"),
    ("Ελένη", "Παπαδοπούλου"),
    ("Jose\u0301", "Nun\u0303ez"),
    ("𠮷郎", "𠮷田"),
)

SUFFIXES = ("Jr.", "Sr.", "II", "III", "Esq.")
INITIALS = "ABCDEFGHJKLMNPRSTVWY"

STREETS = _split(
    """
    Acacia Alder Ashford Aspen Bayview Beacon Birch Bluebonnet Bridge Broadway Brookside Camelback Cedar Cherry
    Chestnut Church College Cottonwood Cypress Dogwood Elm Evergreen Fairview Forest Franklin Garfield Glenwood
    Grand Grant Harbor Hawthorne Hickory Highland Hillcrest Jackson Jefferson Juniper Kensington Lafayette Lake
    Laurel Lincoln Linden Madison Magnolia Main Maple Meadow Mesquite Mill Monroe Oak Ocotillo Orchard Palmetto
    Park Peachtree Pecan Pine Piñon Prairie Prospect Quail Ridge River Roosevelt Rosewood Saguaro Spring Spruce
    Summit Sunset Sycamore Valley Vista Walnut Washington Willow Winchester Woodland
    """
)
STREET_KINDS = ("St", "Ave", "Blvd", "Dr", "Ln", "Rd", "Ct", "Way", "Pl", "Ter", "Cir", "Pkwy")
DIRECTIONS = ("", "", "", "N ", "S ", "E ", "W ", "NE ", "SW ")
UNITS = ("Apt", "Unit", "Ste", "#")

COMPANIES = _split(
    """
    Acorn | Anchor | Beacon | Blue Ridge | Cascade | Cornerstone | Desert Sky | Eagle | First American Heritage |
    Fortress | Four Peaks | Gateway | Granite | Harbor Point | Keystone | Lakeshore | Liberty Bell | Magnolia |
    Meridian | Northgate | Old Town | Pacific Crest | Patriot | Pinnacle | Red Rock | Riverbend | Sequoia |
    Silver Oak | Stonebridge | Summit | Sunrise | Three Rivers | Trailhead | Union Square | Vanguard | Westbrook |
    Wildflower
    """,
    "|",
)
COMPANY_LAST = {
    "LENDER": ("Mortgage", "Home Loans", "Savings Bank", "Credit Union", "Bank, N.A.", "Lending Group"),
    "TITLE_COMPANY": ("Title Agency", "Title & Escrow", "Land Title Co.", "Abstract & Title"),
    "REAL_ESTATE_AGENT": ("Realty", "Properties", "Homes", "Real Estate Group"),
    "ATTORNEY": ("Law Group", "& Associates, P.C.", "Legal, PLLC", "LLP"),
    "COMPANY": ("Holdings LLC", "Builders, Inc.", "Development Partners", "Family Trust", "Investments LLC", "Corp."),
    "ESCROW_OFFICER": ("Title & Escrow",),
}

JOB_TITLES = {
    "LENDER": ("Loan Officer", "Mortgage Broker", "Underwriter", "Loan Processor"),
    "TITLE_COMPANY": ("Title Examiner", "Closing Coordinator", "Branch Manager"),
    "REAL_ESTATE_AGENT": ("Listing Agent", "Buyer's Agent", "Broker", "REALTOR®"),
    "ATTORNEY": ("Attorney", "Partner", "Of Counsel", "Paralegal"),
    "ESCROW_OFFICER": ("Escrow Officer", "Senior Escrow Officer", "Escrow Assistant"),
    "COMPANY": ("Manager", "Authorized Signer", "Trustee", "CFO"),
}

TRANSACTION_NOTES = (
    "Buyer asked for a remote online notarization.",
    "Wire instructions verified by phone with the lender; do not accept changes by e-mail.",
    "HOA estoppel ordered, expected in 5 business days.",
    "Seller is out of the country until the 14th – mail-away closing.",
    "Payoff good through month end; per diem $48.17.",
    "Title commitment shows an unreleased 2009 deed of trust.",
    "Survey shows the fence 1.5′ over the east line.",
    "1031 exchange, accommodator documents to follow.",
    "Survivorship affidavit needed, see the vesting deed.",
    "El comprador prefiere comunicarse en español. Llamar después de las 5 p.m.",
    "Clear to close 🎉 – keys with the listing agent 🔑",
    "买方将由其女儿代为签字(授权书已存档)。",
    'Lender says: "docs out by noon".\nSecond line: bring two IDs.\tCopy to the file.',
    "Earnest money \\ option fee received separately; see <escrow ledger> & receipt #2.",
    "הקונה ביקש להקדים את החתימה",
)
CONTACT_NOTES = (
    "Prefers text messages.",
    "Works with us since 2011.",
    "Send CDs to the assistant as well.",
    "Do not call before 10 a.m.",
    "Muy amable ☺️, siempre responde el mismo día.",
    "License up for renewal in June.",
    "Out of office on Fridays",
)
MAIL_DOMAINS = ("example.com", "example.net", "example.org", "mail.example.com")
