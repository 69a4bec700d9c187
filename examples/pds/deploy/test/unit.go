package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Unit is a unit file of systemd with its drop-ins: the values of each key, by "Section.Key".
type Unit struct {
	Name   string
	values map[string][]string
}

var unitFolders = []string{"/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

// loadUnit reads a unit and its drop-ins. A name without a dot is that of a service.
func loadUnit(name string) (*Unit, error) {
	if !strings.Contains(name, ".") {
		name += ".service"
	}
	for _, folder := range unitFolders {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		u := &Unit{Name: name, values: map[string][]string{}}
		if err := u.add(string(text)); err != nil {
			return nil, err
		}
		drops, err := filepath.Glob(filepath.Join(unitFolders[0], name+".d", "*.conf"))
		if err != nil {
			return nil, err
		}
		for _, drop := range drops {
			text, err := os.ReadFile(drop)
			if err == nil {
				err = u.add(string(text))
			}
			if err != nil {
				return nil, err
			}
		}
		return u, nil
	}
	return nil, fmt.Errorf("unit %s not found", name)
}

// add reads lines, which add to those of before. An empty value clears them.
func (u *Unit) add(text string) error {
	section := ""
	for lines := bufio.NewScanner(strings.NewReader(strings.ReplaceAll(text, "\\\n", " "))); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";"):
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
			section = strings.Trim(line, "[]")
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok || section == "" {
				return fmt.Errorf("%s: %q", u.Name, line)
			}
			key, value = section+"."+strings.TrimSpace(key), strings.TrimSpace(value)
			if value == "" {
				u.values[key] = nil
			} else {
				u.values[key] = append(u.values[key], value)
			}
		}
	}
	return nil
}

// get is the last value of a key of [Service], or a default.
func (u *Unit) get(key, otherwise string) string {
	if list := u.values["Service."+key]; len(list) > 0 {
		return list[len(list)-1]
	}
	return otherwise
}

// words splits a command line, with quotes as in unit files.
func words(line string) (list []string) {
	var word strings.Builder
	var quote rune
	open := false
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, open = c, true
		case c == ' ' || c == '\t':
			if word.Len() > 0 || open {
				list = append(list, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteRune(c)
		}
	}
	if word.Len() > 0 || open {
		list = append(list, word.String())
	}
	return list
}
