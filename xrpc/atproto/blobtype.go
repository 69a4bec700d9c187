package atproto

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/xrpc"
)

// sniffLen is how much of a blob is looked at to find its type.
const sniffLen = 3072

// Types that say nothing about a blob.
const (
	anyType     = "*/*" // what some clients send for "look for yourself"
	unknownType = "application/octet-stream"
)

// declaredType returns the media type that an upload declares.
func declaredType(contentType string) (string, error) {
	if contentType == "" {
		return "", xrpc.InvalidRequest("Request encoding (Content-Type) required but not provided")
	}
	t, ok := xrpc.MediaType(contentType)
	if !ok {
		return "", xrpc.InvalidRequest("Invalid Content-Type: %.200q", contentType)
	}
	return t, nil
}

// blobType finds the type of a blob by its first bytes and by what was declared. It returns the
// body with these bytes.
func (s *Service) blobType(body io.Reader, declared string) (io.Reader, string, error) {
	buf := bufio.NewReaderSize(body, sniffLen)
	head, err := buf.Peek(sniffLen)
	if err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, "", err
	}
	sniff := s.Sniff
	if sniff == nil {
		sniff = sniffStandard
	}
	found, guess := unknownType, false
	if len(head) > 0 {
		found, guess = sniff(head)
	}
	return buf, chooseType(declared, found, guess), nil
}

// sniffStandard is for a nil Service.Sniff.
func sniffStandard(head []byte) (mime string, guess bool) {
	mime, _, _ = strings.Cut(http.DetectContentType(head), ";")
	return mime, strings.HasPrefix(mime, "text/")
}

// chooseType decides between the type that was declared and the one that the first bytes show.
// These have the last word, as clients often declare what the name of a file suggests; but not if
// they show only the container of what was declared, or if they are text, whose type is a guess.
func chooseType(declared, found string, guess bool) string {
	found = strings.ToLower(found)
	switch declared {
	case anyType:
		return found
	case unknownType:
		if guess {
			return declared
		}
		return found
	}
	if guess || found == unknownType || isWithin(declared, found) {
		return declared
	}
	return found
}

// container is a format that many types share. Its first bytes often do not tell which of them it
// is: that is known by the tracks, or by a list at the end.
type container struct {
	names []string // the types by which it is recognised
	holds []string // the types that it may be: whole ones, or "application/" for all such
}

var containers = []container{
	{
		[]string{"application/ogg", "audio/ogg", "video/ogg"},
		[]string{"application/ogg", "audio/ogg", "video/ogg", "audio/opus", "audio/vorbis", "audio/speex", "audio/x-vorbis+ogg", "audio/x-opus+ogg", "audio/x-speex+ogg", "audio/x-flac+ogg", "video/x-theora+ogg"},
	},
	{ // ISO base media files of tracks
		[]string{"video/mp4", "audio/mp4", "audio/x-m4a", "video/x-m4v", "video/quicktime", "video/3gpp", "video/3gpp2", "video/mj2"},
		[]string{"video/mp4", "audio/mp4", "application/mp4", "audio/x-m4a", "audio/m4a", "audio/x-m4b", "audio/mp4a-latm", "video/x-m4v", "video/quicktime", "video/3gpp", "audio/3gpp", "video/3gpp2", "audio/3gpp2", "video/mj2"},
	},
	{ // and of images
		[]string{"video/mp4", "image/heif", "image/heif-sequence"},
		[]string{"image/heic", "image/heic-sequence", "image/heif", "image/heif-sequence", "image/avif", "image/avif-sequence", "image/x-canon-cr3"},
	},
	{[]string{"image/heic", "image/heic-sequence", "image/avif"}, []string{"image/heif", "image/heif-sequence"}},
	{[]string{"image/heic", "image/heic-sequence"}, []string{"image/heic", "image/heic-sequence"}}, // one file may be both
	{[]string{"image/avif"}, []string{"image/avif-sequence"}},
	{[]string{"image/jp2", "image/jpx", "image/jpm"}, []string{"image/jp2", "image/jpx", "image/jpm"}},
	{
		[]string{"video/webm", "video/matroska", "video/x-matroska"},
		[]string{"video/webm", "audio/webm", "video/matroska", "audio/matroska", "video/x-matroska", "audio/x-matroska", "video/x-matroska-3d", "video/matroska-3d"},
	},
	{[]string{"video/x-ms-asf"}, []string{"video/x-ms-asf", "video/x-ms-wmv", "audio/x-ms-wma", "application/vnd.ms-asf"}},
	{[]string{"audio/mpeg"}, []string{"audio/aac", "audio/aacp", "audio/x-aac", "audio/flac", "audio/x-flac"}}, // a tag of ID3 may stand before all of these
	{[]string{"audio/aac"}, []string{"audio/aacp"}},
	{[]string{"image/apng"}, []string{"image/png"}},
	{[]string{"image/x-icon"}, []string{"image/vnd.microsoft.icon"}},
	{[]string{"image/tiff"}, []string{"image/dng", "image/x-"}}, // the raw formats of cameras
	{ // archives and compression
		[]string{"application/zip", "application/gzip", "application/x-gzip", "application/zlib", "application/zstd", "application/x-xz", "application/x-bzip2", "application/lzip", "application/x-tar", "application/x-ole-storage", "application/cbor", "application/vnd.sqlite3"},
		[]string{"application/", "model/", "font/"},
	},
	{[]string{"application/vnd.rar", "application/x-rar-compressed"}, []string{"application/vnd.comicbook-rar", "application/x-cbr"}},
	{[]string{"application/x-7z-compressed"}, []string{"application/x-cb7"}},
	{[]string{"application/java-archive"}, []string{"application/vnd.android.package-archive", "application/x-xpinstall"}},
	{ // office documents: the files in the archive do not tell documents from templates, and those with macros
		[]string{"application/vnd.openxmlformats-officedocument.wordprocessingml.document", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
		[]string{"application/vnd.openxmlformats-", "application/vnd.ms-"},
	},
}

// isWithin reports whether bytes that are recognised as found may be of a type.
func isWithin(mime, found string) bool {
	return slices.ContainsFunc(containers, func(c container) bool {
		return slices.Contains(c.names, found) && slices.ContainsFunc(c.holds, func(h string) bool {
			return mime == h || (strings.HasSuffix(h, "/") || strings.HasSuffix(h, "-")) && strings.HasPrefix(mime, h)
		})
	})
}
