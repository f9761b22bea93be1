"""Whether a text is English, by its script and its most frequent words. It needs no model of languages.

Function words make up a third or more of any sentence, and few are shared: a text with more of them from other
languages than from English, or a long one with none from English, is not English. Words that English shares with
another language, such as `in`, `was` and `die`, speak for neither.
"""

import re
import unicodedata
from functools import cache

_READ = 2000  # characters of a text that are looked at
_FEWEST_LETTERS = 2  # of another script
_FEWEST_FOREIGN = 2  # words of other languages; one may be a name, a quotation or a loan
_WITHOUT_ENGLISH = 5  # from this number of words on, English has some of its frequent words
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")

_ENDING = re.compile(r"..(ing|ed|ly|ness|ful|'s)$")  # of English words, mostly

_ENGLISH = """
the and you that for are with his they this have from but what all were your can said there use each which she how
their up other about out many then them these some her would make like him into time look two more write see number
way could people my than first been call who its now find long down get come made may part i'm it's don't that's can't
you're i've didn't he's isn't i'll doesn't they're there's what's we're i'd you've wasn't won't because just know
think good really one only very when where why here something someone never always too also well after back going
right thing things being our want need got love much any those through most should such before little own same another
while last might great still between must does yes yeah okay thanks thank please lol happy feel day work years year
off again around better best bad every sure maybe though shit fuck damn hell god guy guys wow nice hope glad sorry sad
funny hate life man's world people's new old big myself yourself himself anyone everyone let say says saying take
makes making go goes gonna wanna im dont thats cant youre ive didnt play game friend friends person someone's poor
awesome amazing cool stupid real shot special white black win hard wrong against without guess remember café cafés
fiancé fiancée naïve cliché clichés résumé déjà crème brûlée jalapeño piñata señor façade décor über pokémon
"""
# English words that are frequent in another language too, or look like one of its words
_SHARED = """
a i in is it an as at on to of so or do no me we he am be by if us was had has die man men will did dem per pour plus
son sin main sans tan ten hay bet door met till even pro hi yo ya ha la le de op em ca non care bare jam ham med co te
af pa mo al ah oh o w u y ty res con var ho van het dan over bin war not gut hat mine min under ser type net del
"""
_OTHERS = {
    "es": "el los las una que por para como pero más este esta todo muy sobre también hasta desde cuando nos porque "
    "eso tu ella estoy está tengo hoy nada siempre qué lo mi su gracias esto día",
    "pt": "os uma que com não por mais dos mas foi ao ele das tem seu sua ou quando muito nos já eu também só pelo "
    "pela até isso ela entre depois sem mesmo meu minha você estou hoje nada obrigado porque tudo está isto um",
    "fr": "les des une est que dans qui pas sur avec ce il au je vous nous ne se mais ou sont cette ses aux elle "
    "très tout été être c'est j'ai mon ma mes moi toi tu même aussi bien rien jamais merci suis d'un l'on ça et du",
    "it": "il di che è un sono mi si ma lo ti una ci questo qui hai sei bene tutto della io gli anche più perché "
    "molto oggi niente sempre grazie nella dei alla mio mia così quando ancora cosa",
    "de": "der und den von zu das mit sich des auf für ist nicht ein eine als auch es werden aus er dass sie nach "
    "wird bei einer um sind noch wie einem ich wir mir mich heute sehr immer aber danke nichts wieder",
    "nl": "een en dat niet zijn voor aan ook er maar om hem zou nog wel geen ik je mijn deze naar heb hij zij ze bij "
    "uit heel vandaag altijd niets bedankt omdat toen weer wij jij ben",
    "sv": "och att det som en på är av den inte har ett han om hade från jag mig så vi nu när mycket idag alltid "
    "aldrig tack hon du mitt också bara vad eller kan ska efter",
    "da": "og det en den til er som på han der ikke et jeg fra vi om så hun nu når mig mit meget altid aldrig tak "
    "også efter hvad hvor noget kunne skulle blev dag",
    "fi": "ja ei se että hän oli joka mutta kun minä sinä olen niin myös mitä tämä olet ovat kuin nyt ole vain mun "
    "minun tänään aina kiitos hyvin siitä sitä jos koska todella olin",
    "pl": "się nie na jest że z jak ale za tak od po mnie już był tylko przez ja jestem mi ma dla ich czy być było "
    "tym wszystko bardzo dzisiaj zawsze dziękuję kiedy tego moja mój jej",
    "cs": "je se na že si tak jsem jako ale jsi mi už mě za jen není když jeho nebo byl jsou ještě velmi dnes vždy "
    "nikdy děkuji protože moje můj které která všechno mám",
    "ro": "și în nu cu că pe din este sunt mai pentru dar fi mă să ce lui nici foarte astăzi mereu eu tu ești asta "
    "când după până ale unui mea meu mulțumesc",
    "hu": "az és hogy nem egy ez csak meg azt mi már volt én mint még nagyon el kell vagy vagyok köszönöm ma mindig "
    "soha ami aki nekem lesz jó mert",
    "tr": "bir ve bu da ne için çok ben ama mi benim gibi daha sen evet hayır olarak sonra kadar şey değil bana biz "
    "bugün zaman neden mı mu senin teşekkürler hiç artık nasıl ile olan",
    "id": "yang di ini itu dengan untuk tidak dari dalam akan pada juga saya ke karena ada kamu aku bisa sudah kita "
    "mereka sangat hari selalu terima kasih tapi apa lagi banget nggak telah adalah sekali merasa",
    "tl": "ang ng mga sa ako ay na ko ka si hindi niya siya ito kung naman lang rin po ba kay kayo tayo namin wala "
    "salamat talaga ngayon dahil nang kaya para pero",
    "vi": "là của và có không được cho tôi bạn một những này đã rất với các trong người anh mình đi nhưng thì hôm "
    "nay như khi ra cũng quá vui",
    "sw": "na wa kwa ni katika za kuwa hii yangu wangu sana mimi wewe lakini leo kila siku asante hakuna yake hiyo "
    "nina sina mtu watu",
    "hr": "je se da na su nije za sam što kao ali ja mi ti koji ako bio samo već još sve ovo nisam jer danas uvijek "
    "nikad hvala moj moja kako biti toga bila vrlo jako",
    "ca": "el els les una que amb és més com però aquest aquesta molt també jo tu meva meu avui sempre gràcies "
    "perquè tot quan fins des dels",
    "lt": "ir yra kad tai su iš kaip ne aš tu buvo labai mano šiandien visada ačiū tik jau kai nuo jis ji",
    "et": "ja ei et ma sa oli ta kui aga mis nii ka olen väga mulle minu täna alati aitäh siis veel",
    "sq": "dhe në një të që për nuk është më si por unë ti ishte shumë sot gjithmonë faleminderit kam nga",
}


def is_foreign(text: str) -> bool:
    """Whether a text is not English: most of its letters are of another script, or its words are of other languages.

    A text without letters is not foreign, nor is one of few words that tell nothing, such as a name.
    """
    text = text[:_READ]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)  # full-width letters are Latin ones
        letters = [char for char in text if char.isalpha()]
        others = sum(not char.isascii() and not is_latin(char) for char in letters)
        if others >= _FEWEST_LETTERS and 2 * others > len(letters):
            return True
    words = _WORD.findall(text.casefold().replace("’", "'"))
    english, shared, foreign = known_words()
    of_english = sum(map(english.__contains__, words))
    of_others = sum(map(foreign.__contains__, words))
    if not text.isascii():
        of_others += sum(not word.isascii() and word not in foreign for word in words)
    if of_others >= _FEWEST_FOREIGN and of_others > of_english:
        return True
    if len(words) < _WITHOUT_ENGLISH or of_english:
        return False
    like_english = sum(word in shared or _ENDING.search(word) is not None for word in words)
    return of_others > 0 or _WITHOUT_ENGLISH * like_english < len(words)


@cache
def known_words() -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Return the words of English, those that it shares, and those of other languages; no word is in two."""
    shared = frozenset(_SHARED.split())
    english = frozenset(_ENGLISH.split())
    return english, shared, frozenset(word for words in _OTHERS.values() for word in words.split()) - english - shared


@cache
def is_latin(char: str) -> bool:
    return "LATIN" in unicodedata.name(char, "")
