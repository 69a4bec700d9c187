package config

import (
	"maps"
	"slices"
	"strings"
)

// without are variables of the official server that have no effect here, and why.
func without() map[string]string {
	m := make(map[string]string)
	for why, names := range map[string]string{
		"everything is in one database in PDS_DATA_DIRECTORY": `
			PDS_ACCOUNT_DB_LOCATION PDS_SEQUENCER_DB_LOCATION PDS_DID_CACHE_DB_LOCATION
			PDS_ACTOR_STORE_DIRECTORY PDS_ACTOR_STORE_CACHE_SIZE PDS_SQLITE_DISABLE_WAL_AUTO_CHECKPOINT`,
		"uploads are written beside the blobs":                                    `PDS_BLOBSTORE_DISK_TMP_LOCATION`,
		"subscribers share one window and have no buffers":                        `PDS_MAX_SUBSCRIPTION_BUFFER`,
		"rate limits are counted in memory, and in the database of several nodes": `PDS_REDIS_SCRATCH_ADDRESS PDS_REDIS_SCRATCH_PASSWORD`,
		"sessions always come with the DID document":                              `PDS_ENABLE_DID_DOC_WITH_SESSION`,
		"mail has no links":                             `PDS_EMAIL_DISABLE_CONFIRMATION_LINK`,
		"the server tells its own version":              `PDS_VERSION`,
		"the system's resolver is used":                 `PDS_HANDLE_BACKUP_NAMESERVERS`,
		"HTTP/2 is used where the other side offers it": `PDS_PROXY_ALLOW_HTTP2`,
		"answers are passed on as they come":            `PDS_PROXY_PREFER_COMPRESSED`,
		"requests that were passed on are not repeated": `PDS_PROXY_MAX_RETRIES`,
		"bounds are built in":                           `PDS_FETCH_MAX_RESPONSE_SIZE`,
		"schemas are looked up by their own names":      `PDS_LEXICON_AUTHORITY_DID`,
		"sign-up asks for no captcha":                   `PDS_HCAPTCHA_SITE_KEY PDS_HCAPTCHA_SECRET_KEY PDS_HCAPTCHA_TOKEN_SALT`,
		"pages have one colour of their own, PDS_PRIMARY_COLOR": `
			PDS_ERROR_COLOR PDS_WARNING_COLOR PDS_INFO_COLOR PDS_SUCCESS_COLOR PDS_BACKGROUND_LIGHT_URL PDS_BACKGROUND_DARK_URL`,
		"it is derived from the master key": `PDS_DPOP_SECRET`,
	} {
		for name := range strings.FieldsSeq(names) {
			m[name] = why
		}
	}
	return m
}

// refused are variables without which the server would be another than the
// operator believes.
func refused() map[string]string {
	const entryway = "accounts live on this server: it cannot stand behind an entryway"
	return map[string]string{
		"PDS_ENTRYWAY_URL":                                entryway,
		"PDS_ENTRYWAY_DID":                                entryway,
		"PDS_ENTRYWAY_PLC_ROTATION_KEY":                   entryway,
		"PDS_ENTRYWAY_ADMIN_TOKEN":                        entryway,
		"PDS_PLC_ROTATION_KEY_KMS_KEY_ID":                 "keys of a key management service are not supported: use PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX",
		"PDS_ENTRYWAY_JWT_VERIFY_KEY_K256_PUBLIC_KEY_HEX": entryway,
	}
}

// unknown warns of PDS_* variables that nobody asked for, once all have been.
func (r *reader) unknown() {
	r.known["PDS_ENV_FILE"] = true
	without, refused := without(), refused()
	for _, name := range slices.Sorted(maps.Keys(r.env)) {
		if !strings.HasPrefix(name, "PDS_") || r.known[name] || strings.TrimSpace(r.env[name]) == "" {
			continue
		}
		if why, ok := refused[name]; ok {
			r.wrong(name, "%s", why)
		} else if why, ok := without[name]; ok {
			r.warn("%s has no effect: %s", name, why)
		} else if near := r.nearest(name); near != "" {
			r.warn("%s is not known: did you mean %s?", name, near)
		} else {
			r.warn("%s is not known", name)
		}
	}
}

// nearest is the known name that a name is a misspelling of.
func (r *reader) nearest(name string) string {
	best, least := "", 4
	for _, known := range slices.Sorted(maps.Keys(r.known)) {
		if d := distance(name, known); d < least {
			best, least = known, d
		}
	}
	return best
}

// distance is the number of characters to insert, delete or replace to turn a
// into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// Names are the variables that Load knows: those that it uses, and those that it refuses or
// that have no effect.
func Names() (used, others []string) {
	r := reader{env: make(map[string]string), known: make(map[string]bool)}
	r.load()
	for _, m := range []map[string]string{without(), refused()} {
		others = slices.AppendSeq(others, maps.Keys(m))
	}
	slices.Sort(others)
	return slices.Sorted(maps.Keys(r.known)), others
}
