/* Stored JSON, checked as strictly as projector/projection/jsontext.py does, without its spaces.
   What is refused there, and what is rare, is left to it (ASK). */

#include "native.h"

#define LEVELS_MAX 100
#define MEMBERS_MAX 32 /* of an object, compared with each other; more are rare */
#define DIGITS_MAX 4300

typedef struct {
    Buffer *out; /* with room for the whole value */
    Bytes at, end;
} Parser;

typedef struct {
    Bytes at;
    size_t size;
} Name;

static int parse_value(Parser *parser, int level);

static inline int
is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

static void
skip_spaces(Parser *parser)
{
    while (parser->at < parser->end && is_space(*parser->at))
        parser->at++;
}

static inline void
emit(Parser *parser, Bytes from)
{
    size_t size = (size_t)(parser->at - from);
    memcpy(parser->out->data + parser->out->size, from, size);
    parser->out->size += size;
}

static int
take(Parser *parser, uint8_t byte)
{
    if (parser->at == parser->end || *parser->at != byte)
        return 0;
    parser->at++;
    parser->out->data[parser->out->size++] = byte;
    return 1;
}

static int
hex_value(uint8_t byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* Step over an escape; not over half of a surrogate pair, nor a whole one. */
static int
skip_escape(Parser *parser)
{
    Bytes at = parser->at + 1;

    if (at == parser->end)
        return 0;
    if (*at != 'u') {
        parser->at += 2;
        return *at && strchr("\"\\/bfnrt", *at) != NULL;
    }
    if (parser->end - at < 5)
        return 0;
    for (int i = 1; i <= 4; i++)
        if (hex_value(at[i]) < 0)
            return 0;
    if (hex_value(at[1]) == 13 && hex_value(at[2]) >= 8)
        return 0;
    parser->at += 6;
    return 1;
}

/* `is_escaped` says whether there is any escape in it. */
static int
parse_string(Parser *parser, int *is_escaped)
{
    Bytes from = parser->at;

    if (from == parser->end || *from != '"')
        return 0;
    parser->at++;
    *is_escaped = 0;
    while (parser->at < parser->end) {
        uint8_t byte = *parser->at;
        if (byte == '"') {
            parser->at++;
            emit(parser, from);
            return 1;
        }
        if (byte < 0x20)
            return 0;
        if (byte == '\\') {
            *is_escaped = 1;
            if (!skip_escape(parser))
                return 0;
        } else {
            parser->at++;
        }
    }
    return 0;
}

static size_t
skip_digits(Parser *parser)
{
    Bytes from = parser->at;

    while (parser->at < parser->end && *parser->at >= '0' && *parser->at <= '9')
        parser->at++;
    return (size_t)(parser->at - from);
}

static int
parse_number(Parser *parser)
{
    Bytes from = parser->at;
    size_t digits;

    if (*parser->at == '-')
        parser->at++;
    from = parser->at;
    digits = skip_digits(parser);
    if (!digits || (digits > 1 && *from == '0'))
        return 0;
    if (parser->at < parser->end && *parser->at == '.') {
        parser->at++;
        if (!skip_digits(parser))
            return 0;
    }
    if (parser->at < parser->end && (*parser->at | 0x20) == 'e') {
        parser->at++;
        if (parser->at < parser->end && (*parser->at == '+' || *parser->at == '-'))
            parser->at++;
        if (!skip_digits(parser))
            return 0;
    }
    return parser->at - from < DIGITS_MAX - 1;
}

static int
parse_word(Parser *parser)
{
    static const char *const words[] = {"null", "true", "false"};
    Bytes from = parser->at;

    for (int i = 0; i < 3; i++) {
        size_t size = strlen(words[i]);
        if ((size_t)(parser->end - from) >= size && memcmp(from, words[i], size) == 0) {
            parser->at += size;
            emit(parser, from);
            return 1;
        }
    }
    return 0;
}

static int
is_new(const Name *names, size_t count)
{
    const Name *last = names + count;

    for (size_t i = 0; i < count; i++)
        if (names[i].size == last->size && memcmp(names[i].at, last->at, last->size) == 0)
            return 0;
    return 1;
}

static int
parse_object(Parser *parser, int level)
{
    Name names[MEMBERS_MAX];
    int is_escaped;

    take(parser, '{');
    skip_spaces(parser);
    if (take(parser, '}'))
        return 1;
    for (size_t count = 0; count < MEMBERS_MAX; count++) {
        names[count].at = parser->at;
        if (!parse_string(parser, &is_escaped) || is_escaped)
            return 0;
        names[count].size = (size_t)(parser->at - names[count].at);
        if (!is_new(names, count))
            return 0;
        skip_spaces(parser);
        if (!take(parser, ':') || !parse_value(parser, level))
            return 0;
        if (take(parser, '}'))
            return 1;
        if (!take(parser, ','))
            return 0;
        skip_spaces(parser);
    }
    return 0;
}

static int
parse_array(Parser *parser, int level)
{
    take(parser, '[');
    skip_spaces(parser);
    if (take(parser, ']'))
        return 1;
    do
        if (!parse_value(parser, level))
            return 0;
    while (take(parser, ','));
    return take(parser, ']');
}

/* A value with the spaces around it. */
static int
parse_value(Parser *parser, int level)
{
    Bytes from;
    int is_right, ignored;

    skip_spaces(parser);
    if (parser->at == parser->end)
        return 0;
    from = parser->at;
    switch (*from) {
    case '{':
        is_right = level < LEVELS_MAX && parse_object(parser, level + 1);
        break;
    case '[':
        is_right = level < LEVELS_MAX && parse_array(parser, level + 1);
        break;
    case '"':
        is_right = parse_string(parser, &ignored);
        break;
    case 'n': case 't': case 'f':
        is_right = parse_word(parser);
        break;
    default:
        is_right = parse_number(parser);
        if (is_right)
            emit(parser, from);
    }
    if (is_right)
        skip_spaces(parser);
    return is_right;
}

Outcome
write_json(Buffer *out, Bytes value, size_t size)
{
    Parser parser = {out, value, value + size};

    if (buffer_reserve(out, size + 1) < 0)
        return FAILED;
    if (!is_utf8(value, size) || !parse_value(&parser, 0) || parser.at != parser.end)
        return ASK;
    return WRITTEN;
}

Outcome
write_trusted_json(Buffer *out, Bytes value, size_t size)
{
    Bytes at = value, end = value + size;
    uint8_t *to;
    int is_inside = 0;

    if (buffer_reserve(out, size + 1) < 0)
        return FAILED;
    to = out->data + out->size;
    for (; at < end; at++) {
        uint8_t byte = *at;
        if (is_inside) {
            *to++ = byte;
            if (byte == '\\' && at + 1 < end)
                *to++ = *++at;
            else if (byte == '"')
                is_inside = 0;
        } else if (byte == '\v' || byte == '\f' || byte == '\\') {
            return ASK; /* no JSON: see what Python makes of it */
        } else if (!is_space(byte)) {
            *to++ = byte;
            is_inside = byte == '"';
        }
    }
    if (is_inside)
        return ASK;
    out->size = (size_t)(to - out->data);
    return WRITTEN;
}
