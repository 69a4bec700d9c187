package lexicon

import (
	"strconv"
	"strings"
)

// propertyOrder returns where the members of objects named "properties" begin in the text of a
// schema, by their paths. The text must be valid JSON, which is not nested more deeply than
// data.FromJSON allows.
func propertyOrder(text []byte) map[string]int {
	order := make(map[string]int)
	var path []string // of the objects and arrays that are open
	key := ""
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{', '[':
			path = append(path, key)
			key = ""
		case '}', ']':
			path = path[:len(path)-1]
		case '"':
			end := i + 1
			for ; text[end] != '"'; end++ {
				if text[end] == '\\' {
					end++
				}
			}
			quoted := string(text[i : end+1])
			at := i
			i = end
			for end++; end < len(text) && strings.IndexByte(" \t\r\n", text[end]) >= 0; end++ {
			}
			if end == len(text) || text[end] != ':' {
				continue // a value
			}
			if key = quoted[1 : len(quoted)-1]; strings.Contains(key, `\`) {
				key, _ = strconv.Unquote(quoted) // of names with other escapes than those of Go, the order is not known
			}
			if path[len(path)-1] == "properties" {
				order[strings.Join(path[1:], "/")+"/"+key] = at
			}
		}
	}
	return order
}
