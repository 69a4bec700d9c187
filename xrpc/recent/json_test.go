package recent

import "encoding/json"

// parseJSON reads a line of a JSON log.
func parseJSON(s string) (m map[string]any, err error) {
	err = json.Unmarshal([]byte(s), &m)
	return m, err
}
