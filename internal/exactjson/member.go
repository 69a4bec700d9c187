package exactjson

// Member returns the value of the first member of an object that has a name, as it stands in the
// text; nil if there is none. It looks no further than that member, and does not check the syntax:
// Unmarshal does.
func Member(b []byte, name string) []byte {
	s := scanner{in: b, allowSurrogates: true}
	if !s.take('{') {
		return nil
	}
	for {
		if s.space(); s.pos == len(s.in) || s.in[s.pos] != '"' {
			return nil
		}
		given, err := s.str(false)
		if err != nil || !s.take(':') {
			return nil
		}
		s.space()
		start := s.pos
		if !s.skip() {
			return nil
		}
		if string(given) == name {
			return b[start:s.pos]
		}
		if !s.take(',') {
			return nil
		}
	}
}

// skip goes to the end of a value. It reports false if there is none.
func (s *scanner) skip() bool {
	for depth := 0; s.pos < len(s.in); {
		switch s.in[s.pos] {
		case '"':
			if _, err := s.str(true); err != nil {
				return false
			}
		case '{', '[':
			depth++
			s.pos++
			continue
		case '}', ']':
			depth--
			s.pos++
		case ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return false
			}
			s.pos++
			continue
		default: // a number, or a word
			for s.pos++; s.pos < len(s.in) && s.in[s.pos] > ' ' && s.in[s.pos] != ',' && s.in[s.pos] != '}' && s.in[s.pos] != ']'; s.pos++ {
			}
		}
		if depth <= 0 {
			return depth == 0
		}
	}
	return false
}
