package syntax

import (
	"strings"
	"time"
)

// Datetime is a date and time in the intersection of RFC 3339, ISO 8601 and the
// WHATWG HTML datetime: "2024-01-15T12:30:45.123Z". Seconds, an upper-case T and a time
// zone are required; "-00:00" is not allowed. At most 20 fractional digits, and years 0 to 9999 in
// UTC. Specification: Lexicon, string formats.
type Datetime string

// ParseDatetime checks that s is a datetime, including that the date exists.
func ParseDatetime(s string) (Datetime, error) {
	return Datetime(s), check("datetime", s, checkDatetime(s))
}

// NewDatetime returns a time in UTC with milliseconds.
func NewDatetime(t time.Time) Datetime {
	return Datetime(t.UTC().Format("2006-01-02T15:04:05.000Z"))
}

func checkDatetime(s string) fault {
	const shape = "0000-00-00T00:00:00"
	if len(s) > 64 {
		return fault{64, "longer than 64 bytes"}
	}
	for i := range len(shape) {
		if i >= len(s) {
			return fault{i, "ends early"}
		}
		if shape[i] == '0' {
			if !isDigit(s[i]) {
				return fault{i, "digit expected"}
			}
		} else if s[i] != shape[i] {
			return fault{i, "'" + shape[i:i+1] + "' expected"}
		}
	}
	i := len(shape)
	if i < len(s) && s[i] == '.' {
		start := i + 1
		for i = start; i < len(s) && isDigit(s[i]); i++ {
		}
		if i == start {
			return fault{i, "digits expected after the point"}
		}
		if i-start > 20 {
			return fault{start + 20, "more than 20 fractional digits"}
		}
	}
	zone := i
	switch {
	case zone == len(s):
		return fault{zone, "time zone is missing"}
	case s[zone] == 'Z' && len(s) == zone+1:
	case (s[zone] == '+' || s[zone] == '-') && len(s) == zone+6 &&
		isDigit(s[zone+1]) && isDigit(s[zone+2]) && s[zone+3] == ':' && isDigit(s[zone+4]) && isDigit(s[zone+5]):
		if s[zone:] == "-00:00" {
			return fault{zone, `"-00:00" is not a time zone`}
		}
		if two(s, zone+1) > 23 || two(s, zone+4) > 59 {
			return fault{zone, "time zone out of range"}
		}
	default:
		return fault{zone, "malformed time zone"}
	}
	year, month, day := two(s, 0)*100+two(s, 2), two(s, 5), two(s, 8)
	switch {
	case month < 1 || month > 12:
		return fault{5, "month out of range"}
	case day < 1 || day > daysIn(year, month):
		return fault{8, "day out of range"}
	case two(s, 11) > 23:
		return fault{11, "hour out of range"}
	case two(s, 14) > 59:
		return fault{14, "minute out of range"}
	case two(s, 17) > 59:
		return fault{17, "second out of range"}
	}
	// A time zone must not carry the time before the year 0 or beyond the year 9999.
	local, offset := two(s, 11)*60+two(s, 14), 0
	if s[zone] != 'Z' {
		offset = two(s, zone+1)*60 + two(s, zone+4)
	}
	switch {
	case s[zone] == '+' && year == 0 && month == 1 && day == 1 && local < offset:
		return fault{0, "before the year 0"}
	case s[zone] == '-' && year == 9999 && month == 12 && day == 31 && local+offset >= 24*60:
		return fault{0, "beyond the year 9999"}
	}
	return ok
}

// two is the number that the two digits at i make.
func two(s string, i int) int { return int(s[i]-'0')*10 + int(s[i+1]-'0') }

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// Time returns the datetime as a time; the zero time if it is not valid.
func (d Datetime) Time() time.Time {
	s := string(d)
	if dot := strings.IndexByte(s, '.'); dot >= 0 { // nanoseconds are all that time.Time has
		end := dot + 1
		for end < len(s) && isDigit(s[end]) {
			end++
		}
		s = s[:min(end, dot+10)] + s[end:]
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// Normalize returns the datetime in UTC with milliseconds.
func (d Datetime) Normalize() Datetime { return NewDatetime(d.Time()) }

// String returns the datetime as a string.
func (d Datetime) String() string { return string(d) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Datetime) UnmarshalText(b []byte) (err error) {
	*d, err = parseInto(ParseDatetime, b)
	return err
}
