package search_test

import (
	"database/sql"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/storage/search"
)

func TestTerms(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "",
		"Hello, WORLD 42!":             "hello world 42",
		"don't @alice.test":            "don t alice test",
		"Crème Brûlée ÅNGSTRÖM":        "creme brulee angstrom",
		"creme\u0300 e\u0301":          "creme e",
		"ﬁne Ⅳ ① ½":                    "fine iv 1 12",
		"Ｆｕｌｌ ｶﾅ":                      "full カナ ナ",
		"東京タワー":                        "東京 京タ タワ ワー ー",
		"東京tower":                      "東京 京 tower",
		"ภาษาไทย":                      "ภา าษ ษา าไ ไท ทย ย",
		"हिन्दी में":                   "हिन्दी में",
		"ПРИВЕТ Ёлка":                  "привет елка",
		"שָׁלוֹם":                      "שָׁלוֹם",
		"が か":                          "が か",
		"a\u200bb":                     "a b",
		"İstanbul ẞ":                   "istanbul ß",
		"\U0001f468\u200d\U0001f469 x": "x",
	} {
		var got []string
		for i, term := range search.Terms(text, false) {
			if term.Pos != i || term.Start >= term.End || term.End > len(text) {
				t.Errorf("%q: %+v", text, term)
			}
			got = append(got, term.Text)
		}
		if strings.Join(got, " ") != strings.Join(strings.Fields(want), " ") {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	var got []string
	for _, term := range search.Terms("Alice x 東京", true) {
		got = append(got, term.Text)
	}
	if diff := cmp.Diff([]string{"ali", "lic", "ice", "ce", "e", "x", "東京", "京"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestLanguages finds parts of texts without spaces, and of any text with Grams.
func TestLanguages(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB, x search.Index) {
		grams := x
		grams.Grams, grams.Name = true, grams.Name+"g"
		docs := []search.Doc{
			{ID: "ja", Text: "私は東京タワーに行きました。"},
			{ID: "zh", Text: "北京大学的学生在图书馆"},
			{ID: "th", Text: "ฉันชอบกินข้าวผัด"},
			{ID: "ko", Text: "서울에서 만나요"},
			{ID: "fi", Text: "Kansaneläkelaitos handle.example"},
		}
		for _, c := range []struct {
			x     *search.Index
			query string
			want  string
		}{
			{&x, "東京", "ja"}, {&x, "東", "ja"}, {&x, "タワーに", "ja"}, {&x, "京東", ""}, {&x, "た", "ja"},
			{&x, "大学", "zh"}, {&x, "図", ""}, {&x, "北京 学生", "zh"}, {&x, "馆", "zh"}, {&x, "京", "ja zh"},
			{&x, "ข้าว", "th"}, {&x, "서울에서", "ko"}, {&x, "서울", ""}, {&x, "elake", ""},
			{&grams, "서울", "ko"}, {&grams, "ELÄKE", "fi"}, {&grams, "la", "fi"}, {&grams, "dle.ex", "fi"}, {&grams, "dle.ey", ""},
			{&grams, "タワーに", "ja"}, {&grams, "東京", "ja"}, {&grams, "馆", "zh"}, {&grams, "laitos handle", "fi"}, {&grams, "laitoshandle", ""},
		} {
			if len(docs) > 0 {
				create(t, db, &x)
				create(t, db, &grams)
				put(t, db, &x, docs...)
				put(t, db, &grams, docs...)
				docs = nil
			}
			got := strings.Fields(ids(t, db, c.x, search.Query{Text: c.query}))
			slices.Sort(got)
			if strings.Join(got, " ") != c.want {
				t.Errorf("%q (grams %v): %v, want %s", c.query, c.x.Grams, got, c.want)
			}
		}
		if got := ids(t, db, &x, search.Query{Text: "handle exa", Prefix: true}); got != "fi" {
			t.Errorf("a prefix finds %q", got)
		}
		sound(t, db, &x)
		sound(t, db, &grams)
	})
}

// FuzzQuery translates whatever somebody types. The queries have no syntax but the package's own, and a text is found by
// itself.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"", "alpha beta", `" OR x*`, "東京 tower", "foo-bar@example.com", "e\u0301\u0301", "\x00", "\xff", "ﷺ '", strings.Repeat("x ", 40), "ㄅ\u3099 \u0e01\u0e31", "İ\u0307"} {
		f.Add(s, false, false, true)
		f.Add(s, true, true, false)
	}
	f.Fuzz(func(t *testing.T, text string, grams, prefix, or bool) {
		terms := search.Terms(text, grams)
		for _, term := range terms {
			if term.Text == "" || term.Start < 0 || term.Start >= term.End || term.End > len(text) {
				t.Fatalf("%q: %+v", text, term)
			}
			for _, r := range term.Text {
				if r < 0x80 && !unicode.IsLetter(r) && !unicode.IsDigit(r) || 'A' <= r && r <= 'Z' {
					t.Fatalf("%q: the term %q has %q", text, term.Text, r)
				}
			}
		}
		search.CheckTranslation(t, text, grams, prefix, or)
	})
}
