package backup

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Keep says which generations are kept: the newest one of each of the last days, weeks and so on
// that have one. With String and Set it is a flag.Value: "7d,4w" means seven days and four weeks.
type Keep []Rule

// Rule is a part of Keep: the newest generation of each of the last Count units of time that have
// one.
type Rule struct {
	Count int
	Unit  byte // 'h', 'd', 'w' (from Monday), 'm' or 'y' in UTC; 0: each generation by itself
}

// maxKept bounds a rule's count.
const maxKept = 10_000

// String returns the form that Set reads.
func (k Keep) String() string {
	var parts []string
	for _, r := range k {
		parts = append(parts, strings.TrimRight(fmt.Sprintf("%d%c", r.Count, r.Unit), "\x00"))
	}
	return strings.Join(parts, ",")
}

// Set reads a list of numbers with units, separated by commas.
func (k *Keep) Set(text string) error {
	var rules Keep
	for part := range strings.SplitSeq(text, ",") {
		r := Rule{}
		digits := strings.TrimRight(part, "hdwmy")
		if rest := part[len(digits):]; len(rest) == 1 {
			r.Unit = rest[0]
		} else if rest != "" {
			return fmt.Errorf("%q is not a number and one of h, d, w, m, y", part)
		}
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || n < 1 || n > maxKept {
			return fmt.Errorf("%q is not a number from 1 to %d and one of h, d, w, m, y", part, maxKept)
		}
		r.Count = int(n)
		rules = append(rules, r)
	}
	*k = rules
	return nil
}

// period names the unit of time in which a generation was made.
func (r Rule) period(t time.Time, i int) string {
	t = t.UTC()
	switch r.Unit {
	case 'h':
		return t.Format("2006-01-02 15")
	case 'd':
		return t.Format("2006-01-02")
	case 'w':
		year, week := t.ISOWeek()
		return fmt.Sprint(year, " ", week)
	case 'm':
		return t.Format("2006-01")
	case 'y':
		return t.Format("2006")
	}
	return strconv.Itoa(i)
}

// choose says which generations to keep, of which there are the times from the newest to the
// oldest; but a clock may have gone back between them.
func (k Keep) choose(times []time.Time) []bool {
	kept := make([]bool, len(times))
	if len(kept) > 0 {
		kept[0] = true
	}
	for _, r := range k {
		seen := make(map[string]bool)
		for i, t := range times {
			p := r.period(t, i)
			if seen[p] {
				continue
			}
			if len(seen) == r.Count {
				break
			}
			seen[p], kept[i] = true, true
		}
	}
	return kept
}
