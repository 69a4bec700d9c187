package data_test

import (
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/lexicon/data"
)

// All of these fill the limit on bytes. Each takes milliseconds, and minutes if any step were to
// take time in proportion to the square of the length.
func TestHostileJSONTakesLinearTime(t *testing.T) {
	const size = 2<<20 - 64
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	descending := func() string {
		var b strings.Builder
		for i := 99_999; b.Len() < size-32; i-- {
			b.WriteString(`"key` + big.NewInt(int64(1e6+i)).String() + `":0,`)
		}
		return b.String()
	}
	for name, in := range map[string]string{
		"a link of a megabyte in base 58":        `{"$link":"z` + fill("2") + `"}`,
		"a link of a megabyte in base 32":        `{"$link":"b` + fill("a") + `"}`,
		"a legacy blob of a megabyte in base 58": `{"$type":"a.b.c","x":{"mimeType":"a/b","cid":"z` + fill("2") + `"}}`,
		"a number of a megabyte":                 "1" + fill("0"),
		"a fraction of a megabyte":               "1." + fill("0"),
		"a huge exponent":                        "1e" + fill("9"),
		"a tiny exponent":                        "1e-" + fill("9"),
		"many tiny exponents":                    "[" + fill("0e-999999999,") + "0]",
		"many numbers that a float cannot hold":  "[" + fill("9007199254740991.0e0,") + "0]",
		"keys in descending order":               `{"x":0,` + descending() + `"a":0}`,
		"keys with a long common beginning":      `{` + fill(`"`+strings.Repeat("k", 1000)+`":0,`) + `"":0}`,
		"an array at each level":                 strings.Repeat("[[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],", 30) + fill("1,") + "1" + strings.Repeat("]", 30),
		"an object out of order at each level":   strings.Repeat(`{"b":0,"a":`, 60) + `"` + fill("x")[:1<<20] + `"` + strings.Repeat("}", 60),
		"escapes":                                `"` + fill(`\u0061`) + `"`,
		"quotes that never end":                  `"` + fill(`\"`),
		"bytes":                                  `{"$bytes":"` + fill("AAAA") + `"}`,
		"arrays":                                 fill("["),
		"objects":                                fill(`{"":`),
		"white space":                            fill(" ") + "1",
	} {
		v, err := data.FromJSON([]byte(in), data.Limits{})
		var e *data.Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			data.Blobs(v)
			b, err := data.Encode(v)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := data.BlobRefs(b); err != nil && !errors.Is(err, data.ErrNotObject) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestNumbersThatAreIntegers(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "-0": 0, "0.0": 0, "-0.0e-5": 0, "0e999999999999999999999": 0, "0e-999999999999999999999": 0, "0.000" + strings.Repeat("0", 100): 0,
		"10": 10, "1e1": 10, "1E+1": 10, "100e-1": 10, "1.5e1": 15, "0.015e3": 15, "15000e-3": 15, "-2.50e2": -250, "1." + strings.Repeat("0", 100): 1,
		"9007199254740991": 1<<53 - 1, "-9007199254740991": -1<<53 + 1, "9007199254740991.0": 1<<53 - 1, "9007199254740.991e3": 1<<53 - 1,
		"1000000000000000": 1e15, "1e15": 1e15, "0." + strings.Repeat("0", 50) + "7e51": 7, "7" + strings.Repeat("0", 50) + "e-50": 7,
	} {
		if got, err := data.FromJSON([]byte(in), data.Limits{}); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{
		"0.1", "1e-1", "15e-1", "1.05e1", "9007199254740992", "-9007199254740992", "9007199254740993.0", "90071992547409.92e2", "1e16", "10000000000000000",
		"9007199254740991.5", "1e400", "1e-400", "1e999999999999999999999", "1e-999999999999999999999", "0.9999999999999999999999999", "1" + strings.Repeat("0", 100),
	} {
		if got, err := data.FromJSON([]byte(in), data.Limits{}); !errors.Is(err, data.ErrNumber) {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
}
