package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Environment puts together the environment of the process, as os.Environ gives
// it, and an environment file, whose variables count where the process does not set them. The
// file is the named one, or that of PDS_ENV_FILE, or pds.env in the working directory if there
// is one. It returns the name of the file that it read, if any.
func Environment(process []string, named string) (env map[string]string, file string, err error) {
	env = make(map[string]string, len(process))
	for _, entry := range process {
		if name, value, ok := strings.Cut(entry, "="); ok {
			env[name] = value
		}
	}
	file = named
	if file == "" {
		file = env["PDS_ENV_FILE"]
	}
	optional := file == ""
	if optional {
		file = "pds.env"
	}
	text, err := os.ReadFile(file)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return env, "", nil
	} else if err != nil {
		return nil, "", fmt.Errorf("environment file: %w", err)
	}
	vars, err := parseEnv(string(text))
	if err != nil {
		return nil, "", fmt.Errorf("environment file %s: %w", file, err)
	}
	for name, value := range vars {
		if _, ok := env[name]; !ok {
			env[name] = value
		}
	}
	return env, file, nil
}

// Override sets the variables of an environment to those of a file. An empty value removes a
// variable.
func Override(env map[string]string, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	vars, err := parseEnv(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for name, value := range vars {
		if env[name] = value; value == "" {
			delete(env, name)
		}
	}
	return nil
}

// parseEnv reads lines of NAME=VALUE. As in a shell, a value may stand in single quotes
// (taken as it is) or double quotes (with \n, \", \\, \$), and a comment begins with # at the start
// of a line or after a space; other than in a shell, nothing is substituted.
func parseEnv(text string) (map[string]string, error) {
	vars := make(map[string]string)
	var problems []error
	n := 0
	for line := range strings.SplitSeq(strings.TrimPrefix(text, "\ufeff"), "\n") {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		name = strings.TrimSpace(name)
		if !ok || !isName(name) {
			problems = append(problems, fmt.Errorf("line %d is not NAME=VALUE", n))
			continue
		}
		value, err := unquote(strings.TrimSpace(value))
		if err != nil {
			problems = append(problems, fmt.Errorf("line %d: %s: %w", n, name, err))
		}
		vars[name] = value
	}
	return vars, errors.Join(problems...)
}

func isName(s string) bool {
	for i, c := range []byte(s) {
		if c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

var (
	errQuote = errors.New("a quote is not closed")
	errAfter = errors.New("text after the closing quote")
)

// unquote reads a value up to its comment.
func unquote(s string) (string, error) {
	if s == "" || s[0] != '"' && s[0] != '\'' {
		for i := range len(s) {
			if s[i] == '#' && (i == 0 || s[i-1] == ' ' || s[i-1] == '\t') {
				return strings.TrimSpace(s[:i]), nil
			}
		}
		return s, nil
	}
	quote := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		c := s[i]
		switch {
		case c == quote:
			if rest := strings.TrimSpace(s[i+1:]); rest != "" && rest[0] != '#' {
				return "", errAfter
			}
			return b.String(), nil
		case c == '\\' && quote == '"' && i+1 < len(s):
			i++
			switch s[i] {
			case 'n':
				b.WriteByte('\n')
			case '"', '\\', '$', '`':
				b.WriteByte(s[i])
			default:
				b.WriteByte('\\')
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", errQuote
}
