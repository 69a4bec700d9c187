package lexicon

import (
	"strings"
	"testing"
)

func TestPermissionSetWords(t *testing.T) {
	set := &PermissionSet{
		Title: "Calendar", TitleLang: map[string]string{"de": "Kalender", "pt-BR": "Agenda", "zh-Hant": "日曆", "zh-Hans": "日历"},
		Detail: "All of it", DetailLang: map[string]string{"de-CH": "Alles"},
	}
	for _, c := range []struct{ languages, title, lang, detail string }{
		{"", "Calendar", "", "All of it"},
		{"de", "Kalender", "de", "Alles"},
		{"DE-at", "Kalender", "de", "Alles"},
		{"da de", "Kalender", "de", "Alles"},
		{"en-GB de", "Calendar", "", "All of it"},
		{"pt", "Agenda", "pt-BR", "All of it"},
		{"pt-PT en", "Agenda", "pt-BR", "All of it"},
		{"zh-Hant-TW", "日曆", "zh-Hant", "All of it"},
		{"zh-Hans-CN", "日历", "zh-Hans", "All of it"},
		{"ja", "Calendar", "", "All of it"},
		{"- -- x-", "Calendar", "", "All of it"},
	} {
		title, detail := set.Words(strings.Fields(c.languages))
		if title != (Words{c.title, c.lang}) || detail.Text != c.detail {
			t.Errorf("%q: %+v %+v", c.languages, title, detail)
		}
	}
	// Without a text for all, another language is better than none.
	none := &PermissionSet{TitleLang: map[string]string{"ja": "予定", "fr": "Agenda"}}
	if title, detail := none.Words([]string{"en"}); title != (Words{"Agenda", "fr"}) || detail != (Words{}) {
		t.Errorf("%+v %+v", title, detail)
	}
}
