"""List cities whose state, county, ZIP codes, area code and price level match."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class City:
    """A city for addresses.

    Attributes:
        zip_codes: some of its ZIP codes.
        latitude: the latitude of its center, in degrees.
        longitude: the longitude of its center, in degrees.
        median_price: the median house price, in dollars.
    """

    name: str
    state: str
    county: str
    zip_codes: tuple[str, ...]
    area_code: str
    latitude: float
    longitude: float
    median_price: int


def _parse_row(row: str) -> City:
    name, state, county, zip_codes, area_code, latitude, longitude, median_price = (
        cell.strip() for cell in row.split("|")
    )
    return City(
        name, state, county, tuple(zip_codes.split()), area_code, float(latitude), float(longitude), int(median_price)
    )


CITIES: tuple[City, ...] = tuple(
    _parse_row(row)
    for row in """\
Phoenix|AZ|Maricopa|85003 85016 85018 85032 85044|602|33.448|-112.074|445000
Scottsdale|AZ|Maricopa|85251 85254 85255 85260|480|33.494|-111.926|835000
Tucson|AZ|Pima|85704 85710 85718 85750|520|32.222|-110.975|335000
Los Angeles|CA|Los Angeles|90004 90026 90034 90042 90065|213|34.052|-118.244|960000
Cañon City|CO|Fremont|81212|719|38.441|-105.242|318000
San Diego|CA|San Diego|92103 92109 92115 92127|619|32.716|-117.161|930000
San José|CA|Santa Clara|95112 95123 95125 95148|408|37.338|-121.886|1420000
Sacramento|CA|Sacramento|95814 95819 95822 95831|916|38.582|-121.494|480000
Irvine|CA|Orange|92602 92612 92618 92620|949|33.684|-117.826|1350000
Denver|CO|Denver|80202 80205 80209 80220|303|39.739|-104.990|590000
Boulder|CO|Boulder|80301 80302 80304|303|40.015|-105.271|980000
Hartford|CT|Hartford|06103 06105 06114|860|41.764|-72.685|240000
Miami|FL|Miami-Dade|33125 33129 33137 33155|305|25.762|-80.192|610000
Orlando|FL|Orange|32801 32806 32819 32827|407|28.538|-81.379|400000
Tampa|FL|Hillsborough|33602 33606 33611 33647|813|27.951|-82.457|425000
Jacksonville|FL|Duval|32204 32210 32224 32258|904|30.332|-81.656|315000
Atlanta|GA|Fulton|30305 30309 30312 30327|404|33.749|-84.388|430000
Savannah|GA|Chatham|31401 31405 31419|912|32.081|-81.091|345000
Honolulu|HI|Honolulu|96813 96816 96822 96825|808|21.307|-157.858|1080000
Boise|ID|Ada|83702 83704 83706 83709|208|43.615|-116.202|495000
Chicago|IL|Cook|60607 60614 60622 60647 60657|312|41.878|-87.630|355000
Naperville|IL|DuPage|60540 60563 60565|630|41.786|-88.147|560000
Indianapolis|IN|Marion|46202 46220 46240 46250|317|39.768|-86.158|245000
New Orleans|LA|Orleans|70115 70118 70119 70124|504|29.951|-90.072|300000
Boston|MA|Suffolk|02116 02118 02127 02130|617|42.360|-71.059|810000
Worcester|MA|Worcester|01602 01605 01609|508|42.263|-71.802|405000
Baltimore|MD|Baltimore city|21209 21218 21224 21230|410|39.290|-76.612|230000
Detroit|MI|Wayne|48201 48214 48221 48226|313|42.331|-83.046|95000
Ann Arbor|MI|Washtenaw|48103 48104 48105|734|42.281|-83.743|480000
Minneapolis|MN|Hennepin|55405 55408 55410 55419|612|44.978|-93.265|330000
Kansas City|MO|Jackson|64108 64111 64113 64131|816|39.100|-94.579|255000
Charlotte|NC|Mecklenburg|28202 28205 28210 28277|704|35.227|-80.843|410000
Raleigh|NC|Wake|27603 27607 27609 27614|919|35.780|-78.638|440000
Las Vegas|NV|Clark|89117 89128 89135 89148|702|36.170|-115.140|440000
Española|NM|Rio Arriba|87532|505|35.991|-106.080|265000
Albuquerque|NM|Bernalillo|87106 87109 87111 87122|505|35.084|-106.651|330000
Brooklyn|NY|Kings|11201 11211 11215 11230|718|40.678|-73.944|870000
Buffalo|NY|Erie|14209 14214 14216 14222|716|42.886|-78.878|225000
Columbus|OH|Franklin|43202 43206 43214 43235|614|39.961|-82.999|280000
Portland|OR|Multnomah|97202 97209 97211 97214|503|45.515|-122.679|530000
Philadelphia|PA|Philadelphia|19103 19123 19130 19147|215|39.953|-75.164|265000
Pittsburgh|PA|Allegheny|15203 15206 15217 15232|412|40.441|-79.996|235000
Mayagüez|PR|Mayagüez|00680 00682|787|18.201|-67.140|145000
Charleston|SC|Charleston|29401 29407 29412 29414|843|32.777|-79.931|575000
Nashville|TN|Davidson|37203 37206 37209 37215|615|36.163|-86.782|470000
Austin|TX|Travis|78702 78704 78731 78745|512|30.267|-97.743|530000
Dallas|TX|Dallas|75204 75214 75219 75230|214|32.777|-96.797|310000
Houston|TX|Harris|77007 77019 77024 77098|713|29.760|-95.370|265000
San Antonio|TX|Bexar|78209 78230 78249 78258|210|29.424|-98.494|250000
Salt Lake City|UT|Salt Lake|84102 84105 84108 84117|801|40.761|-111.891|555000
Richmond|VA|Richmond city|23220 23221 23226|804|37.541|-77.436|375000
Seattle|WA|King|98103 98105 98115 98122|206|47.606|-122.332|860000
Spokane|WA|Spokane|99201 99203 99223|509|47.659|-117.426|385000
Milwaukee|WI|Milwaukee|53202 53207 53211|414|43.039|-87.906|215000
""".splitlines()
)
