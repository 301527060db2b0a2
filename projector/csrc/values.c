/* Values of the text protocol as JSON: the plain ones of projector/projection/encoding.py, whose
   names the writers have. Each writes what its namesake writes, or says ASK: never a guess. */

#include "native.h"

#define ONES 0x0101010101010101u
#define HIGHS 0x8080808080808080u
#define HAS_ZERO(word) (((word) - ONES) & ~(word) & HIGHS)

static inline uint64_t
load(Bytes at)
{
    uint64_t word;
    memcpy(&word, at, 8);
    return word;
}

static inline int
is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

static int
are_digits(Bytes at, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!is_digit(at[i]))
            return 0;
    return 1;
}

static size_t
digits_from(Bytes at, size_t from, size_t size)
{
    size_t end = from;
    while (end < size && is_digit(at[end]))
        end++;
    return end - from;
}

/* UTF-8 as Python's decoder takes it: no surrogates, nothing overlong (Unicode 15, table 3-7). */
int
is_utf8(Bytes at, size_t size)
{
    Bytes end = at + size;

    while (at < end) {
        uint8_t first = *at;
        unsigned following;
        uint8_t least = 0x80, most = 0xBF;

        if (first < 0x80) {
            while (end - at >= 8 && !(load(at) & HIGHS))
                at += 8;
            while (at < end && *at < 0x80)
                at++;
            continue;
        }
        if (first < 0xC2 || first > 0xF4)
            return 0;
        following = first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
        if ((size_t)(end - at) <= following)
            return 0;
        if (first == 0xE0)
            least = 0xA0;
        else if (first == 0xED)
            most = 0x9F;
        else if (first == 0xF0)
            least = 0x90;
        else if (first == 0xF4)
            most = 0x8F;
        if (at[1] < least || at[1] > most)
            return 0;
        for (unsigned i = 2; i <= following; i++)
            if ((at[i] & 0xC0) != 0x80)
                return 0;
        at += following + 1;
    }
    return 1;
}

/* How many bytes stand before the first that a JSON string must escape. */
static size_t
plain_run(Bytes at, size_t size)
{
    size_t i = 0;

    for (; size - i >= 8; i += 8) {
        uint64_t word = load(at + i);
        uint64_t control = (word - 0x2020202020202020u) & ~word & HIGHS;
        if (control | HAS_ZERO(word ^ 0x2222222222222222u) | HAS_ZERO(word ^ 0x5C5C5C5C5C5C5C5Cu))
            break;
    }
    while (i < size && at[i] >= 0x20 && at[i] != '"' && at[i] != '\\')
        i++;
    return i;
}

static void
put_escape(Buffer *out, uint8_t byte)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t *to = out->data + out->size;
    uint8_t letter = byte == '\n' ? 'n' : byte == '\r' ? 'r' : byte == '\t' ? 't'
                   : byte == '\f' ? 'f' : byte == '\b' ? 'b' : byte >= 0x20 ? byte : 0;

    to[0] = '\\';
    if (letter) {
        to[1] = letter;
        out->size += 2;
        return;
    }
    memcpy(to + 1, "u00", 3);
    to[4] = hex[byte >> 4];
    to[5] = hex[byte & 15];
    out->size += 6;
}

static Outcome
write_text(Buffer *out, Bytes value, size_t size)
{
    size_t run = plain_run(value, size);

    if (buffer_reserve(out, size + 2) < 0)
        return FAILED;
    if (run < size && !is_utf8(value, size))
        return ASK;
    out->data[out->size++] = '"';
    for (;;) {
        memcpy(out->data + out->size, value, run);
        out->size += run;
        value += run;
        size -= run;
        if (!size)
            break;
        if (buffer_reserve(out, size + 7) < 0)
            return FAILED;
        put_escape(out, *value++);
        size--;
        run = plain_run(value, size);
    }
    out->data[out->size++] = '"';
    return WRITTEN;
}

static Outcome
write_any_text(Buffer *out, Bytes value, size_t size)
{
    return is_utf8(value, size) ? write_text(out, value, size) : ASK;
}

static Outcome
put(Buffer *out, const void *data, size_t size)
{
    return buffer_put(out, data, size) < 0 ? FAILED : WRITTEN;
}

static Outcome
put_quoted(Buffer *out, Bytes data, size_t size)
{
    if (buffer_reserve(out, size + 2) < 0)
        return FAILED;
    out->data[out->size++] = '"';
    memcpy(out->data + out->size, data, size);
    out->size += size;
    out->data[out->size++] = '"';
    return WRITTEN;
}

static Outcome
put_boolean(Buffer *out, int is_true)
{
    return is_true ? put(out, "true", 4) : put(out, "false", 5);
}

/* Whether it is spelled as JSON and Python spell a whole number. */
static int
is_plain_whole(Bytes value, size_t size)
{
    size_t sign = size && value[0] == '-';
    size_t digits = size - sign;

    if (!digits || digits > 4000 || !are_digits(value + sign, digits))
        return 0;
    return value[sign] != '0' || (digits == 1 && !sign);
}

static Outcome
write_whole_number(Buffer *out, Bytes value, size_t size)
{
    return is_plain_whole(value, size) ? put(out, value, size) : ASK;
}

static Outcome
write_boolean(Buffer *out, Bytes value, size_t size)
{
    return put_boolean(out, !(size == 1 && value[0] == '0'));
}

static Outcome
write_bits_boolean(Buffer *out, Bytes value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (value[i])
            return put_boolean(out, 1);
    return put_boolean(out, 0);
}

static Outcome
write_any_boolean(Buffer *out, Bytes value, size_t size)
{
    if (!is_plain_whole(value, size))
        return ASK;
    return put_boolean(out, value[0] != '0');
}

static Outcome
write_bits(Buffer *out, Bytes value, size_t size)
{
    uint64_t number = 0;
    uint8_t digits[20];
    size_t at = sizeof digits;

    if (size > 8)
        return ASK;
    for (size_t i = 0; i < size; i++)
        number = number << 8 | value[i];
    do
        digits[--at] = '0' + (uint8_t)(number % 10);
    while (number /= 10);
    return put(out, digits + at, sizeof digits - at);
}

static Outcome
write_number_as_text(Buffer *out, Bytes value, size_t size)
{
    return put_quoted(out, value, size);
}

static Outcome
write_any_number_as_text(Buffer *out, Bytes value, size_t size)
{
    size_t sign = size && value[0] == '-';
    size_t whole = digits_from(value, sign, size);
    size_t at = sign + whole;

    /* Small fractions are spelled with an exponent: only Decimal knows when. */
    if (is_plain_whole(value, size))
        return put_quoted(out, value, size);
    if (!whole || whole > 4000 || value[sign] == '0' || at == size || value[at] != '.')
        return ASK;
    if (at + 1 == size || size > 4000 || !are_digits(value + at + 1, size - at - 1))
        return ASK;
    return put_quoted(out, value, size);
}

/* Where no more than 15 digits count, the shortest text that gives the same float is this one:
   two numbers of 15 digits are never the same float. Others are printed by Python. */
static Outcome
write_floating(Buffer *out, Bytes value, size_t size)
{
    size_t sign = size && value[0] == '-';
    size_t whole = digits_from(value, sign, size);
    size_t at = sign + whole;
    size_t fraction, zeros = 0;

    if (!whole || whole > 15 || (value[sign] == '0' && whole > 1))
        return ASK;
    if (at == size) {
        if (put(out, value, size) == FAILED)
            return FAILED;
        return put(out, ".0", 2);
    }
    fraction = size - at - 1;
    if (value[at] != '.' || !fraction || whole + fraction > 15 || value[size - 1] == '0')
        return ASK;
    if (!are_digits(value + at + 1, fraction))
        return ASK;
    while (value[at + 1 + zeros] == '0')
        zeros++;
    if (value[sign] == '0' && zeros > 3)
        return ASK;
    return put(out, value, size);
}

static int
is_day(Bytes value)
{
    static const uint8_t lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned year, month, day, length;

    if (!are_digits(value, 4) || value[4] != '-' || !are_digits(value + 5, 2)
        || value[7] != '-' || !are_digits(value + 8, 2))
        return 0;
    year = (value[0] - '0') * 1000u + (value[1] - '0') * 100u + (value[2] - '0') * 10u
         + (value[3] - '0');
    month = (value[5] - '0') * 10u + (value[6] - '0');
    day = (value[8] - '0') * 10u + (value[9] - '0');
    if (!year || !month || month > 12 || !day)
        return 0;
    length = lengths[month - 1];
    if (month == 2 && year % 4 == 0 && (year % 100 || year % 400 == 0))
        length = 29;
    return day <= length;
}

/* Whether these are hours, minutes and seconds, with a fraction of up to six digits or none. */
static int
is_time(Bytes value, size_t size)
{
    if (size < 8 || size == 9 || size > 15)
        return 0;
    if (!are_digits(value, 2) || value[2] != ':' || !are_digits(value + 3, 2) || value[5] != ':'
        || !are_digits(value + 6, 2))
        return 0;
    if ((value[0] - '0') * 10 + (value[1] - '0') > 23 || value[3] > '5' || value[6] > '5')
        return 0;
    return size == 8 || (value[8] == '.' && are_digits(value + 9, size - 9));
}

/* Six digits of the fraction, or none. There must be room for 15 bytes. */
static void
put_time(Buffer *out, Bytes value, size_t size)
{
    size_t last = size;

    while (last > 9 && value[last - 1] == '0')
        last--;
    if (last <= 9) {
        memcpy(out->data + out->size, value, 8);
        out->size += 8;
        return;
    }
    memcpy(out->data + out->size, value, size);
    memset(out->data + out->size + size, '0', 15 - size);
    out->size += 15;
}

static Outcome
write_date_time(Buffer *out, Bytes value, size_t size)
{
    if (size < 19 || !is_day(value) || (value[10] != ' ' && value[10] != 'T')
        || !is_time(value + 11, size - 11))
        return ASK;
    if (buffer_reserve(out, 29) < 0)
        return FAILED;
    out->data[out->size++] = '"';
    memcpy(out->data + out->size, value, 10);
    out->size += 10;
    out->data[out->size++] = 'T';
    put_time(out, value + 11, size - 11);
    out->data[out->size++] = 'Z';
    out->data[out->size++] = '"';
    return WRITTEN;
}

static Outcome
write_date_only(Buffer *out, Bytes value, size_t size)
{
    return size == 10 && is_day(value) ? put_quoted(out, value, size) : ASK;
}

static Outcome
write_time_of_day(Buffer *out, Bytes value, size_t size)
{
    if (!is_time(value, size))
        return ASK;
    if (buffer_reserve(out, 17) < 0)
        return FAILED;
    out->data[out->size++] = '"';
    put_time(out, value, size);
    out->data[out->size++] = '"';
    return WRITTEN;
}

static Outcome
write_blob(Buffer *out, Bytes value, size_t size)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t *to;

    if (buffer_reserve(out, size / 3 * 4 + 6) < 0)
        return FAILED;
    to = out->data + out->size;
    *to++ = '"';
    for (; size >= 3; size -= 3, value += 3) {
        *to++ = letters[value[0] >> 2];
        *to++ = letters[(value[0] & 3) << 4 | value[1] >> 4];
        *to++ = letters[(value[1] & 15) << 2 | value[2] >> 6];
        *to++ = letters[value[2] & 63];
    }
    if (size) {
        uint8_t second = size == 2 ? value[1] : 0;
        *to++ = letters[value[0] >> 2];
        *to++ = letters[(value[0] & 3) << 4 | second >> 4];
        *to++ = size == 2 ? letters[(second & 15) << 2] : '=';
        *to++ = '=';
    }
    *to++ = '"';
    out->size = (size_t)(to - out->data);
    return WRITTEN;
}

static int
has_dash(size_t at)
{
    return at == 8 || at == 13 || at == 18 || at == 23;
}

static Outcome
write_uuid_bytes(Buffer *out, Bytes value, size_t size)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t text[36];
    size_t at = 0;

    if (size != 16)
        return ASK;
    for (size_t i = 0; i < 16; i++) {
        if (has_dash(at))
            text[at++] = '-';
        text[at++] = hex[value[i] >> 4];
        text[at++] = hex[value[i] & 15];
    }
    return put_quoted(out, text, 36);
}

static Outcome
write_uuid_text(Buffer *out, Bytes value, size_t size)
{
    if (size != 36)
        return ASK;
    for (size_t i = 0; i < 36; i++) {
        uint8_t byte = value[i];
        if (has_dash(i) ? byte != '-' : !is_digit(byte) && !(byte >= 'a' && byte <= 'f'))
            return ASK;
    }
    return put_quoted(out, value, size);
}

static const struct {
    const char *name;
    Writer writer;
} WRITERS[] = {
    {"text", write_text},
    {"any_text", write_any_text},
    {"whole_number", write_whole_number},
    {"boolean", write_boolean},
    {"bits_boolean", write_bits_boolean},
    {"any_boolean", write_any_boolean},
    {"date_time", write_date_time},
    {"any_date_time", write_date_time},
    {"date_only", write_date_only},
    {"any_date", write_date_only},
    {"time_of_day", write_time_of_day},
    {"number_as_text", write_number_as_text},
    {"any_number_as_text", write_any_number_as_text},
    {"floating", write_floating},
    {"blob", write_blob},
    {"uuid_bytes", write_uuid_bytes},
    {"uuid_text", write_uuid_text},
    {"bits", write_bits},
    {"json_value", write_json},
    {"trusted_json", write_trusted_json},
};

Writer
writer_named(const char *name)
{
    for (size_t i = 0; i < sizeof WRITERS / sizeof *WRITERS; i++)
        if (strcmp(WRITERS[i].name, name) == 0)
            return WRITERS[i].writer;
    return NULL;
}
