package syntax

// Language is a language tag, such as "pt-BR": well-formed by the grammar of BCP 47 (RFC 5646
// section 2.1), including grandfathered tags, with a primary subtag of two or three lower-case
// letters. It does not check that subtags are registered. At most 128 bytes. Specification:
// Lexicon, string formats.
type Language string

// ParseLanguage checks that s is a language tag.
func ParseLanguage(s string) (Language, error) {
	return Language(s), check("language", s, checkLanguage(s))
}

// grandfathered reports the irregular tags of RFC 5646 that the grammar's other
// rules do not cover.
func grandfathered(s string) bool {
	switch s {
	case "en-GB-oed", "i-ami", "i-bnn", "i-default", "i-enochian", "i-hak", "i-klingon", "i-lux",
		"i-mingo", "i-navajo", "i-pwn", "i-tao", "i-tay", "i-tsu", "sgn-BE-FR", "sgn-BE-NL", "sgn-CH-DE":
		return true
	}
	return false
}

func checkLanguage(s string) fault {
	if len(s) > 128 {
		return fault{128, "longer than 128 bytes"}
	}
	if grandfathered(s) {
		return ok
	}
	p := subtags{s: s}
	if !p.next() {
		return p.f
	}
	if p.is('x') {
		return p.privateUse()
	}
	if n := p.len(); n < 2 || n > 3 || !p.all(isLower) {
		return fault{p.from, "language subtag must have two or three lower-case letters"}
	}
	more := p.next()
	for i := 0; more && i < 3 && p.len() == 3 && p.alpha(); i++ { // extended language subtags
		more = p.next()
	}
	return p.afterLanguage(more)
}

// subtags walks over the parts of a tag.
type subtags struct {
	s        string
	from, to int // of the present subtag
	f        fault
	started  bool
}

// next goes to the next subtag. It reports false at the end, or with p.f set
// where the subtag is malformed.
func (p *subtags) next() bool {
	if p.started {
		if p.to == len(p.s) {
			return false
		}
		p.from = p.to + 1
	}
	p.started = true
	for p.to = p.from; p.to < len(p.s) && p.s[p.to] != '-'; p.to++ {
		if !isAlnum(p.s[p.to]) {
			p.f = fault{p.to, "illegal character"}
			return false
		}
	}
	if p.to == p.from {
		p.f = fault{p.from, "empty subtag"}
		return false
	}
	if p.to-p.from > 8 {
		p.f = fault{p.from + 8, "subtag longer than 8 characters"}
		return false
	}
	return true
}

func (p *subtags) len() int       { return p.to - p.from }
func (p *subtags) is(c byte) bool { return p.len() == 1 && p.s[p.from]|0x20 == c }
func (p *subtags) alpha() bool    { return p.all(isAlpha) }
func (p *subtags) digits() bool   { return p.all(isDigit) }
func (p *subtags) all(is func(byte) bool) bool {
	for i := p.from; i < p.to; i++ {
		if !is(p.s[i]) {
			return false
		}
	}
	return true
}

// afterLanguage checks script, region, variants, extensions and private use.
func (p *subtags) afterLanguage(more bool) fault {
	if more && p.len() == 4 && p.alpha() { // script
		more = p.next()
	}
	if more && (p.len() == 2 && p.alpha() || p.len() == 3 && p.digits()) { // region
		more = p.next()
	}
	for more && (p.len() >= 5 || p.len() == 4 && isDigit(p.s[p.from])) { // variants
		more = p.next()
	}
	for more && p.len() == 1 && !p.is('x') { // extensions
		parts := 0
		for more = p.next(); more && p.len() >= 2; more = p.next() {
			parts++
		}
		if p.f == ok && parts == 0 {
			return fault{p.to, "extension has no subtags"}
		}
	}
	if more && p.is('x') {
		return p.privateUse()
	}
	if p.f != ok {
		return p.f
	}
	if more {
		return fault{p.from, "subtag not allowed here"}
	}
	return ok
}

// privateUse checks what follows "x".
func (p *subtags) privateUse() fault {
	parts := 0
	for p.next() {
		parts++
	}
	if p.f == ok && parts == 0 {
		return fault{p.to, "private use has no subtags"}
	}
	return p.f
}

// String returns the tag as a string.
func (l Language) String() string { return string(l) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *Language) UnmarshalText(b []byte) (err error) {
	*l, err = parseInto(ParseLanguage, b)
	return err
}
