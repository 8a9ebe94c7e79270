"""Words of several languages that follow a value, one meaning a line: its key, then its names."""

UNITS = """
mm: millimeter millimeters millimetre millimetres мм 毫米
cm: centimeter centimeters centimetre centimetres zentimeter centímetro centímetros
   centimètre centimètres см 厘米 公分
dm: decimeter decimeters 分米
nm:
m: meter meters metre metres metro metros mètre mètres метр метра метров м 米 公尺
   メートル 미터
km: kilometer kilometers kilometre kilometres kilómetro kilómetros quilômetros kilomètre
   kilomètres км километров 千米 公里 キロメートル
in: inch inches
ft: foot feet
yd: yard yards
mi: mile miles millas
mg: milligram milligrams мг 毫克
g: gram grams gramo gramos gramme grammes gramm г грамм граммов 克
kg: kilogram kilograms kilo kilos kilogramm kilogramos кг килограмм килограммов 千克
   公斤
lb: lbs pound pounds
oz: ounce ounces
ton: tons tonne tonnes тонн 吨
l: L liter liters litre litres litro litros л литр литров 升
ml: milliliter milliliters мл 毫升
gallon: gallons
s: sec secs second seconds segundo segundos seconde secondes sekunde sekunden secondi с
   сек секунд секунды 秒 초
min: mins minute minutes minuto minutos minuten minuti мин минут минуты 分钟 分鐘 분
h: hr hrs hour hours hora horas heure heures stunde stunden std ore ч час часа часов
   小时 小時 時間 시간
day: days día días dia dias jour jours tag tage tagen giorni день дня дней 天 일
week: weeks semana semanas semaine semaines woche wochen settimane недель недели 周 星期
   週間
month: months mes meses mois monat monate mesi месяц месяца месяцев 个月 か月 개월
year: years año años ano anos an ans année années jahr jahre jahren anni год года лет 年
   岁 歳 년 세
degree: degrees deg grad grados degrés 度 도
celsius:
fahrenheit:
radian: radians rad
unit: units
dollar: dollars usd dólar dólares долларов 美元
cent: cents
euro: euros eur евро 欧元
sterling:
rupee: rupees inr rs
yuan: rmb cny 元 块
yen: jpy 円
won: 원
ruble: rubles rub рублей рубля руб
student: students
way: ways
time: times
apple: apples
point: points
coin: coins
am: a.m
pm: p.m
people:
uhr:
kcal:
micrometer: micrometers micrometre micrometres
microgram: micrograms
microsecond: microseconds
microliter: microliters microlitre microlitres
microvolt: microvolts
microampere: microamperes
microfarad: microfarads
microwatt: microwatts
mol:
kWh:
kW:
MW:
mW:
Hz:
kHz:
MHz:
GHz:
Pa:
kPa:
MPa:
eV:
keV:
MeV:
kJ:
MJ:
mJ:
kV:
mV:
N:
A:
J:
W:
K:
V:
F:
C:
T:
"""
SCALES = """
12: dozen dozens docena docenas douzaine douzaines dutzend dúzia дюжин
1e1: decenas decena dizaine dizaines decine decina dezenas dezena десяток десятка десятков 十
20: score vingtaine
1e2: hundred hundreds hundert hunderte cientos centenar centenares centena centenas centaine
   centaines centinaia honderd ratus trăm сотня сотни сотен 百 백 सौ
1e3: thousand thousands millar millares milhares millier milliers migliaia tausende mil mille
   tausend mila тысяч тысячи тыс duizend ribu nghìn ngàn
   bin 千 仟 천 हज़ार हजार ألف พัน
1e4: myriad myriads 万 萬 만 หมื่น
1e5: lakh lakhs lac लाख แสน
1e6: million millions millón millones milhão milhões milione milioni millionen mio
   миллион миллиона миллионов млн miljoen juta triệu milyon مليون ล้าน
1e7: crore crores करोड़
1e8: 亿 億 억
1e9: billion billions bilhão bilhões bn milliard milliards milliarde milliarden
   miliardi mrd миллиард
   миллиарда миллиардов млрд miliar tỷ milyar مليار
1e12: trillion trillions billón billones 兆 조
1e15: quadrillion quadrillions
1e18: quintillion quintillions
"""
POWERS_BEFORE = """
2: square sq quadrat 平方 квадратных кв
3: cubic cu kubik 立方 кубических куб
"""
POWERS_AFTER = """
2: cuadrados carrés quadrados quadrati
3: cúbicos cubes
"""


SHORT_THINGS = "of men cup egg box bag can car pen toy kid boy cat dog cow hen pig pts pcs yrs"
CURRENCIES = (
    "USD EUR GBP INR CHF JPY CNY RMB AUD CAD NZD HKD SGD KRW BRL MXN SEK NOK DKK PLN CZK HUF RUB "
    "TRY ZAR BDT PKR NPR LKR PHP IDR VND THB MYR NGN KES GHS EGP ILS AED SAR"
)
"""Codes, which stand before or after an amount."""


def by_name(table: str) -> dict[str, str]:
    """name -> key, for every line of a table; a key is a name of its own."""
    lines = table.replace("\n   ", " ").strip().splitlines()
    keyed = [line.split(": ") if ": " in line else [line.rstrip(":"), ""] for line in lines]
    return {name: key for key, names in keyed for name in (key, *names.split())}
