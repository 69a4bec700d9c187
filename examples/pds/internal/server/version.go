package server

import (
	"runtime/debug"
	"strings"
)

// Version is what /xrpc/_health tells and "pds version" shows: that of the module, as the Go
// command has noted it in the program, or what is known of the commit it was built from.
var Version = func() string {
	info, _ := debug.ReadBuildInfo()
	return versionOf(info)
}()

// Revision is the commit that the program was built from; empty: it is not known.
var Revision = func() string {
	info, _ := debug.ReadBuildInfo()
	return setting(info, "vcs.revision")
}()

func setting(info *debug.BuildInfo, key string) string {
	if info != nil {
		for _, s := range info.Settings {
			if s.Key == key {
				return s.Value
			}
		}
	}
	return ""
}

// unreleased is what a program is called of which nothing is known.
const unreleased = "0.1.0-dev"

func versionOf(info *debug.BuildInfo) string {
	if info == nil {
		return unreleased
	}
	if v := strings.TrimPrefix(info.Main.Version, "v"); v != "" && v != "(devel)" {
		return v
	}
	version, dirty := unreleased, ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			version = unreleased + "+" + s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = ".changed"
		}
	}
	if version == unreleased {
		return version
	}
	return version + dirty
}
