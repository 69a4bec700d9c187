package readafter

import (
	"encoding/json"
	"strings"

	"github.com/pdskit/pdskit/lexicon/data"
)

// profile edits the answer of getProfile.
func (v *viewer) profile(body []byte) ([]byte, error) {
	e := v.newEditor(body)
	e.actor(e.space(0), true)
	return e.done()
}

// profiles edits the answer of getProfiles.
func (v *viewer) profiles(body []byte) ([]byte, error) {
	e := v.newEditor(body)
	e.member("profiles", func(i int) int {
		return e.array(i, func(i int) int { return e.actor(i, true) })
	})
	return e.done()
}

// actor brings a view of an actor up to date if it is the account and its profile has
// changed. What is only in detailed views is set there.
func (e *editor) actor(i int, detailed bool) (end int) {
	var view map[string]json.RawMessage
	end = e.read(i, &view)
	if stringOf(view["did"]) != string(e.DID) || e.ProfileChanged.IsZero() {
		return end
	}
	p := e.Profile
	set(view, "displayName", p.DisplayName)
	set(view, "pronouns", p.Pronouns)
	e.setImage(view, "avatar", p.Avatar)
	if detailed {
		set(view, "description", p.Description)
		set(view, "website", p.Website)
		e.setImage(view, "banner", p.Banner)
		delete(view, "pinnedPost")
		if p.PinnedPost != nil {
			view["pinnedPost"], _ = json.Marshal(p.PinnedPost)
		}
	}
	e.replace(i, end, "", view, "")
	return end
}

// author brings the author of a post view up to date.
func (e *editor) author(i int) (end int) {
	at := -1
	end = e.object(i, func(name string, i int) int {
		if name == "author" {
			at = i
		}
		return e.skip(i)
	})
	if at >= 0 {
		e.actor(at, false)
	}
	return end
}

// stringOf is a string in JSON; anything else is empty.
func stringOf(raw json.RawMessage) (s string) {
	data.UnmarshalPlainJSON(raw, &s)
	return s
}

// set sets a member, or deletes it if it is to be empty.
func set(view map[string]json.RawMessage, name, to string) {
	delete(view, name)
	if to != "" {
		view[name], _ = json.Marshal(to)
	}
}

// setImage sets the address of an image. One that is of the same image already stays.
func (v *viewer) setImage(view map[string]json.RawMessage, name string, b *data.Blob) {
	if b != nil && b.Ref.Defined() && strings.Contains(stringOf(view[name]), b.Ref.String()) {
		return
	}
	set(view, name, v.image(name, b))
}
