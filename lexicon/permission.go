package lexicon

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// PermissionSet bundles permissions that a user can grant together.
// Specifications: Lexicon, Permissions.
type PermissionSet struct {
	Description string
	Title       string
	TitleLang   map[string]string // by language
	Detail      string
	DetailLang  map[string]string
	Permissions []Permission
}

// Permission is one entry of a set as written. PermissionSet.Grants decides whether it grants
// anything.
type Permission struct {
	Resource string
	// Fields are all fields but "type" and "description": strings, int64 or bool, or []any of
	// these.
	Fields map[string]any
}

// Grant is an effective permission of a set.
type Grant struct {
	Resource    string        // "repo" or "rpc"
	Collections []syntax.NSID // repo; ascending, none twice
	Actions     []string      // repo: a selection of "create", "update" and "delete", in this order
	Methods     []syntax.NSID // rpc; ascending, none twice
	Audience    string        // rpc: "*", or what the set was included with
}

func (r *reader) permissionSet(o object, desc string) Type {
	t := &PermissionSet{Description: desc, Title: r.text(o, "title"), Detail: r.text(o, "detail")}
	langs := func(name string) (m map[string]string) {
		r.field(o, name, func(v any) {
			m = make(map[string]string)
			texts := r.asObject(v)
			for _, lang := range slices.Sorted(maps.Keys(texts)) {
				r.at(lang, func() {
					if _, err := syntax.ParseLanguage(lang); err != nil {
						r.fail("%v", err)
					}
					m[lang] = r.asText(texts[lang])
				})
			}
		})
		return m
	}
	t.TitleLang, t.DetailLang = langs("title:lang"), langs("detail:lang")
	r.need(o, "permissions", func(v any) {
		r.each(v, func(v any) { t.Permissions = append(t.Permissions, r.permission(v)) })
	})
	return t
}

func (r *reader) permission(v any) Permission {
	p := Permission{Fields: make(map[string]any)}
	o := r.asObject(v)
	for _, name := range slices.Sorted(maps.Keys(o)) {
		r.at(name, func() {
			v := o[name]
			switch name {
			case "type":
				if v != "permission" {
					r.fail(`must be "permission"`)
				}
			case "description":
				r.asText(v)
			case "resource":
				p.Resource = r.asText(v)
			default:
				p.Fields[name] = v
				list, isList := v.([]any)
				if !isList {
					list = []any{v}
				}
				for _, x := range list {
					switch x.(type) {
					case string, int64, bool:
					default:
						r.fail("must be a string, an integer, a boolean or an array of these")
					}
				}
			}
		})
	}
	if p.Resource == "" {
		r.fail("must have a resource")
	}
	if o["type"] == nil {
		r.fail("must have a type")
	}
	return p
}

// Grants returns the effective permissions of a set, and the reasons why others are ignored. id is
// the NSID of the set. audience is the service of the "include:" scope
// ("did:web:example.com#service"), or empty.
//
// As the specification demands, an entry is ignored as a whole if it has a resource other than repo
// and rpc, unknown fields or values, or names anything outside of the set's own group of NSIDs and
// the groups below it.
func (s *PermissionSet) Grants(id syntax.NSID, audience string) (granted []Grant, ignored []error) {
	for i, p := range s.Permissions {
		g, err := p.grant(id, audience)
		if err != nil {
			ignored = append(ignored, fmt.Errorf("lexicon %s: permission %d is ignored: %w", id, i, err))
		} else {
			granted = append(granted, g)
		}
	}
	return granted, ignored
}

var actions = []string{"create", "update", "delete"}

func (p Permission) grant(set syntax.NSID, audience string) (Grant, error) {
	g := Grant{Resource: p.Resource}
	var names string
	var known []string
	switch p.Resource {
	case "repo":
		names, known = "collection", []string{"collection", "action"}
	case "rpc":
		names, known = "lxm", []string{"lxm", "aud", "inheritAud"}
	default:
		return g, fmt.Errorf("unknown resource %s", quote(p.Resource))
	}
	for _, name := range slices.Sorted(maps.Keys(p.Fields)) {
		if !slices.Contains(known, name) {
			return g, fmt.Errorf("unknown field %s", quote(name))
		}
	}
	list, _ := p.Fields[names].([]any)
	if len(list) == 0 {
		return g, fmt.Errorf("%s must be an array with at least one NSID", names)
	}
	var ids []syntax.NSID
	for _, v := range list {
		s, _ := v.(string)
		id, err := syntax.ParseNSID(s)
		if err != nil {
			return g, fmt.Errorf("%s: %w", names, err)
		}
		if !underGroup(set, id) {
			return g, fmt.Errorf("%s is outside of the set's group", id)
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if p.Resource == "repo" {
		g.Collections = ids
		return g, p.actions(&g)
	}
	g.Methods = ids
	return g, p.audience(&g, audience)
}

func (p Permission) actions(g *Grant) error {
	v, there := p.Fields["action"]
	if !there {
		g.Actions = slices.Clone(actions)
		return nil
	}
	list, _ := v.([]any)
	if len(list) == 0 {
		return fmt.Errorf("action must be an array with at least one action")
	}
	for _, v := range list {
		if s, _ := v.(string); !slices.Contains(actions, s) {
			return fmt.Errorf("unknown action %v", v)
		}
	}
	for _, a := range actions {
		if slices.Contains(list, any(a)) {
			g.Actions = append(g.Actions, a)
		}
	}
	return nil
}

func (p Permission) audience(g *Grant, inherited string) error {
	inherit, isBool := p.Fields["inheritAud"].(bool)
	if _, there := p.Fields["inheritAud"]; there && !isBool {
		return fmt.Errorf("inheritAud must be a boolean")
	}
	aud, there := p.Fields["aud"]
	switch {
	case inherit && there:
		return fmt.Errorf("aud and inheritAud exclude each other")
	case inherit && inherited == "":
		return fmt.Errorf("the set was included without an audience")
	case inherit && inherited == "*", !inherit && aud == "*":
		g.Audience = "*"
	case inherit:
		g.Audience = inherited
	default:
		return fmt.Errorf(`aud must be "*", or inheritAud true`)
	}
	return nil
}

// underGroup reports whether an NSID is in the group of a set or in one below it.
func underGroup(set, id syntax.NSID) bool {
	dot := strings.LastIndexByte(string(set), '.')
	return dot >= 0 && strings.HasPrefix(string(id), string(set[:dot+1]))
}

// Scope returns the grant as an OAuth scope, such as "repo:com.example.note" or
// "rpc?lxm=com.example.a&lxm=com.example.b&aud=*".
func (g Grant) Scope() string {
	ids, name := g.Collections, "collection"
	if g.Resource == "rpc" {
		ids, name = g.Methods, "lxm"
	}
	scope, sep := g.Resource, "?"
	add := func(name, value string) {
		scope += sep + name + "=" + value
		sep = "&"
	}
	if len(ids) == 1 {
		scope += ":" + string(ids[0])
	} else {
		for _, id := range ids {
			add(name, string(id))
		}
	}
	if g.Resource == "rpc" {
		add("aud", escapeScope(g.Audience))
	} else if len(g.Actions) < len(actions) {
		for _, a := range g.Actions {
			add("action", a)
		}
	}
	return scope
}

// escapeScope escapes what has a meaning in a scope.
func escapeScope(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`%#&+="\`, c) >= 0 {
			b.WriteString("%" + strings.ToUpper(strconv.FormatUint(uint64(c)|0x100, 16)[1:]))
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
