package atproto

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/xrpc/atproto/blobtype"
)

// box is a box of an ISO base media file.
func box(kind, content string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(8+len(content)))) + kind + content
}

// ftyp begins such a file of some brands.
func ftyp(brand string, compatible ...string) string {
	return box("ftyp", brand+"\x00\x00\x02\x00"+strings.Join(compatible, "")) + box("mdat", "content")
}

// ogg is a page of an Ogg file that begins a stream.
func ogg(packet string) string {
	return "OggS\x00\x02" + strings.Repeat("\x00", 20) + "\x01" + string(rune(len(packet))) + packet
}

// ebml begins a Matroska file of a type.
func ebml(docType string) string {
	head := "\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82" + string([]byte{0x80 | byte(len(docType))}) + docType + "\x42\x87\x81\x04\x42\x85\x81\x02"
	return "\x1a\x45\xdf\xa3" + string([]byte{0x80 | byte(len(head))}) + head + "\x18\x53\x80\x67"
}

func riff(kind, content string) string {
	return "RIFF" + string(binary.LittleEndian.AppendUint32(nil, uint32(4+len(content)))) + kind + content
}

// stored is a file in a ZIP archive, without compression.
func stored(name, content string) string {
	n := string([]byte{byte(len(content)), 0, 0, 0})
	return "PK\x03\x04\x14" + strings.Repeat("\x00", 13) + n + n + string([]byte{byte(len(name)), 0, 0, 0}) + name + content
}

// samples are files, or how they begin.
var samples = map[string]string{
	"png":      "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89\x00\x00\x00\x0aIDAT",
	"apng":     "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89\x00\x00\x00\x08acTL\x00\x00\x00\x01",
	"jpeg":     "\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01",
	"gif":      "GIF89a\x01\x00\x01\x00\x80\x00\x00",
	"webp":     riff("WEBP", "VP8 \x10\x00\x00\x00"+strings.Repeat("\x00", 16)),
	"heic":     ftyp("heic", "mif1", "heic"),
	"heif":     ftyp("mif1", "mif1", "heic"),
	"avif":     ftyp("avif", "avif", "mif1"),
	"jxl":      "\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a",
	"tiff":     "II*\x00\x08\x00\x00\x00",
	"bmp":      "BM\x46\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00",
	"svg":      `<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"></svg>`,
	"svg-xml":  `<?xml version="1.0" encoding="UTF-8"?><svg xmlns="http://www.w3.org/2000/svg"></svg>`,
	"mp4":      ftyp("isom", "isom", "iso2", "avc1", "mp41"),
	"mp42":     ftyp("mp42", "mp42", "isom"),
	"m4a":      ftyp("M4A ", "M4A ", "mp42", "isom"),
	"m4v":      ftyp("M4V ", "M4V ", "M4A ", "mp42"),
	"mov":      ftyp("qt  ", "qt  "),
	"3gp":      ftyp("3gp4", "3gp4", "isom"),
	"webm":     ebml("webm"),
	"mkv":      ebml("matroska"),
	"opus":     ogg("OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00"),
	"vorbis":   ogg("\x01vorbis\x00\x00\x00\x00\x02\x44\xac\x00\x00"),
	"speex":    ogg("Speex   1.2.0"),
	"theora":   ogg("\x80theora\x03\x02\x01"),
	"oggother": ogg("CELT    1.0\x00\x00"),
	"mp3":      "\xff\xfb\x90\x64" + strings.Repeat("\x00", 413) + "\xff\xfb\x90\x64" + strings.Repeat("\x00", 413),
	"mp3-id3":  "ID3\x03\x00\x00\x00\x00\x0f\x76TIT2\x00\x00\x00\x06\x00\x00\x00title" + strings.Repeat("\x00", 20),
	"wav":      riff("WAVE", "fmt \x10\x00\x00\x00\x01\x00\x01\x00\x44\xac\x00\x00"),
	"flac":     "fLaC\x00\x00\x00\x22" + strings.Repeat("\x00", 34),
	"aac":      "\xff\xf1\x50\x80\x02\x1f\xfc" + strings.Repeat("\x00", 64),
	"avi":      riff("AVI ", "LIST\x00\x00\x00\x00hdrl"),
	"pdf":      "%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj",
	"zip":      "PK\x03\x04\x14\x00\x00\x00\x08\x00" + strings.Repeat("\x00", 16) + "\x05\x00\x00\x00a.bin12345",
	"gzip":     "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\x04\x00",
	"json":     `{"a":[1,2,{"b":null}]}`,
	"text":     "hello, this is text\n",
	"html":     "<!DOCTYPE html><html><script>alert(1)</script></html>",
	"vtt":      "WEBVTT\n\n00:01.000 --> 00:02.000\nhello\n",
	"xml":      `<?xml version="1.0"?><a/>`,
	"unknown":  "\x01\x02\x03\x04",
	"empty":    "",
	"woff2":    "wOF2\x00\x01\x00\x00",

	"hevc":        ftyp("hevc", "hevc", "mif1"),
	"msf1":        ftyp("msf1", "msf1", "hevc"),
	"avis":        ftyp("avis", "avis", "mif1"),
	"cr3":         ftyp("crx ", "crx ", "isom"),
	"m4b":         ftyp("M4B ", "M4B ", "isom"),
	"mov-old":     box("moov", "\x00\x00\x00\x6cmvhd"),
	"jp2":         "\x00\x00\x00\x0cjP  \r\n\x87\n" + ftyp("jp2 ", "jp2 "),
	"jxl-raw":     "\xff\x0a\x00\x00\x00",
	"webp-moving": riff("WEBP", "VP8X\x0a\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00ANIM"),
	"svg-bom":     "\xef\xbb\xbf<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
	"svg-comment": "<!-- <html> made by a program -->\n<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
	"svg-doctype": "\n<?xml version='1.0'?>\r\n<!DOCTYPE svg PUBLIC \"-//W3C//DTD SVG 1.1//EN\" \"a.dtd\" [<!ENTITY a \"b>\">]>\n<!-- x --><svg:svg/>",
	"svg-in-html": "<!DOCTYPE html><body><svg></svg>",
	"svgx":        "<svgx></svgx>",
	"mkv-void":    "\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska\x42\x87\x81\x04",
	"aac-2":       "\xff\xf9\x50\x80\x02\x1f\xfc",
	"utf16":       "\xff\xfeh\x00i\x00",
	"csv":         "a,b,c\n1,2,3\n4,5,6\n",
	"rar":         "Rar!\x1a\x07\x01\x00",
	"docx":        stored("[Content_Types].xml", "x") + stored("word/document.xml", "y"),
	"xlsx":        stored("[Content_Types].xml", "x") + stored("xl/workbook.xml", "y"),
	"odt":         stored("mimetype", "application/vnd.oasis.opendocument.text"),
	"epub":        stored("mimetype", "application/epub+zip"),
	"jar":         stored("META-INF/MANIFEST.MF", "x"),
	"ole":         "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + strings.Repeat("\x00", 600),
}

// TestTypeOfBlob: what is declared, and what the bytes are.
func TestTypeOfBlob(t *testing.T) {
	const any, octets = "*/*", "application/octet-stream"
	s := &Service{Sniff: blobtype.Sniff}
	for _, tt := range []struct{ sample, declared, want string }{
		// Nothing is declared.
		{"png", any, "image/png"}, {"apng", any, "image/apng"}, {"jpeg", any, "image/jpeg"}, {"gif", any, "image/gif"}, {"webp", any, "image/webp"},
		{"heic", any, "image/heic"}, {"heif", any, "image/heif"}, {"avif", any, "image/avif"}, {"jxl", any, "image/jxl"}, {"tiff", any, "image/tiff"}, {"bmp", any, "image/bmp"},
		{"svg", any, "image/svg+xml"}, {"svg-xml", any, "image/svg+xml"},
		{"mp4", any, "video/mp4"}, {"mp42", any, "video/mp4"}, {"m4a", any, "audio/x-m4a"}, {"m4v", any, "video/x-m4v"}, {"mov", any, "video/quicktime"}, {"3gp", any, "video/3gpp"},
		{"webm", any, "video/webm"}, {"mkv", any, "video/matroska"},
		{"opus", any, "audio/ogg"}, {"vorbis", any, "audio/ogg"}, {"speex", any, "audio/ogg"}, {"theora", any, "video/ogg"}, {"oggother", any, "application/ogg"},
		{"mp3", any, "audio/mpeg"}, {"mp3-id3", any, "audio/mpeg"}, {"wav", any, "audio/wav"}, {"flac", any, "audio/flac"}, {"aac", any, "audio/aac"}, {"avi", any, "video/x-msvideo"},
		{"pdf", any, "application/pdf"}, {"zip", any, "application/zip"}, {"gzip", any, "application/gzip"}, {"woff2", any, "font/woff2"},
		{"json", any, "application/json"}, {"text", any, "text/plain"}, {"html", any, "text/html"}, {"vtt", any, "text/vtt"}, {"xml", any, "text/xml"},
		{"unknown", any, octets},
		{"heic", octets, "image/heic"}, {"opus", octets, "audio/ogg"}, {"text", octets, octets}, {"json", octets, octets}, {"unknown", octets, octets},
		// The bytes are what is declared.
		{"jpeg", "image/jpeg", "image/jpeg"}, {"wav", "audio/wav", "audio/wav"}, {"mkv", "video/matroska", "video/matroska"},
		{"jpeg", "image/jpg", "image/jpeg"}, {"mp3", "audio/mp3", "audio/mpeg"}, {"wav", "audio/x-wav", "audio/wav"}, {"flac", "audio/x-flac", "audio/flac"},
		// They are something else.
		{"jpeg", "image/png", "image/jpeg"}, {"png", "text/html", "image/png"}, {"webp", "image/jpeg", "image/webp"}, {"pdf", "image/png", "application/pdf"},
		{"mp4", "image/png", "video/mp4"}, {"heic", "video/mp4", "image/heic"}, {"heic", "image/jpeg", "image/heic"}, {"avif", "image/heic", "image/avif"},
		{"opus", "video/mp4", "audio/ogg"}, {"webm", "video/mp4", "video/webm"}, {"m4a", "audio/mpeg", "audio/x-m4a"}, {"zip", "image/png", "application/zip"}, {"gzip", "text/plain", "application/gzip"},
		// They are the container of what is declared.
		{"opus", "audio/ogg", "audio/ogg"}, {"opus", "audio/opus", "audio/opus"}, {"vorbis", "audio/vorbis", "audio/vorbis"}, {"opus", "video/ogg", "video/ogg"}, {"oggother", "audio/ogg", "audio/ogg"},
		{"oggother", "video/ogg", "video/ogg"}, {"vorbis", "application/ogg", "application/ogg"},
		{"mp4", "audio/mp4", "audio/mp4"}, {"mp42", "audio/x-m4a", "audio/x-m4a"}, {"m4a", "audio/mp4", "audio/mp4"}, {"m4a", "audio/m4a", "audio/m4a"}, {"mp4", "video/quicktime", "video/quicktime"},
		{"mov", "video/mp4", "video/mp4"}, {"m4v", "video/mp4", "video/mp4"}, {"3gp", "audio/3gpp", "audio/3gpp"}, {"mp4", "application/mp4", "application/mp4"},
		{"heif", "image/heic", "image/heic"}, {"heic", "image/heif", "image/heif"}, {"mp4", "image/avif", "image/avif"},
		{"webm", "audio/webm", "audio/webm"}, {"mkv", "video/webm", "video/webm"}, {"mkv", "audio/x-matroska", "audio/x-matroska"}, {"webm", "video/x-matroska", "video/x-matroska"},
		{"mp3-id3", "audio/flac", "audio/flac"}, {"mp3-id3", "audio/aac", "audio/aac"},
		{"apng", "image/png", "image/png"}, {"tiff", "image/x-adobe-dng", "image/x-adobe-dng"},
		{"zip", "application/epub+zip", "application/epub+zip"}, {"zip", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
		{"zip", "model/3mf", "model/3mf"}, {"gzip", "application/x-tgs", "application/x-tgs"},
		// They are text, whose type is a guess.
		{"text", "text/markdown", "text/markdown"}, {"svg", "image/svg+xml", "image/svg+xml"}, {"html", "image/svg+xml", "image/svg+xml"}, {"svg", "text/plain", "text/plain"},
		{"json", "application/ld+json", "application/ld+json"}, {"json", "model/gltf+json", "model/gltf+json"}, {"json", "text/plain", "text/plain"}, {"text", "application/json", "application/json"},
		{"xml", "application/rss+xml", "application/rss+xml"}, {"vtt", "text/vtt", "text/vtt"}, {"text", "image/png", "image/png"},
		// More of them, as the programs of people write them.
		{"svg-bom", any, "image/svg+xml"}, {"svg-comment", any, "image/svg+xml"}, {"svg-doctype", any, "image/svg+xml"}, {"svg-in-html", any, "text/html"}, {"svgx", any, "text/plain"},
		{"svg-bom", "image/svg+xml", "image/svg+xml"}, {"svg-comment", "text/plain", "text/plain"}, {"svg-bom", octets, octets}, {"utf16", "text/csv", "text/csv"}, {"utf16", any, "text/plain"},
		{"csv", any, "text/csv"}, {"csv", "text/plain", "text/plain"}, {"webp-moving", any, "image/webp"}, {"jxl-raw", any, "image/jxl"}, {"jxl-raw", "image/jpeg", "image/jxl"},
		{"hevc", any, "image/heic-sequence"}, {"hevc", "image/heic", "image/heic"}, {"heic", "image/heic-sequence", "image/heic-sequence"}, {"hevc", "image/avif", "image/heic-sequence"},
		{"msf1", "image/heic-sequence", "image/heic-sequence"}, {"avis", any, "image/avif"}, {"avis", "image/avif-sequence", "image/avif-sequence"}, {"avis", "image/heif-sequence", "image/heif-sequence"},
		{"cr3", "image/x-canon-cr3", "image/x-canon-cr3"}, {"m4b", "audio/x-m4b", "audio/x-m4b"}, {"m4b", any, "audio/mp4"}, {"mov-old", any, "video/quicktime"}, {"jp2", "image/jpx", "image/jpx"},
		{"mkv-void", any, "video/matroska"}, {"mkv-void", "video/webm", "video/webm"}, {"aac-2", any, "audio/aac"}, {"aac-2", "audio/aacp", "audio/aacp"}, {"aac-2", "audio/x-aac", "audio/aac"},
		{"mp3-id3", "audio/x-flac", "audio/x-flac"}, {"mp3-id3", "audio/x-aac", "audio/x-aac"}, {"mp3-id3", "audio/wav", "audio/mpeg"},
		{"docx", any, "application/vnd.openxmlformats-officedocument.wordprocessingml.document"}, {"docx", "application/vnd.ms-word.document.macroenabled.12", "application/vnd.ms-word.document.macroenabled.12"},
		{"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.template", "application/vnd.openxmlformats-officedocument.wordprocessingml.template"}, {"docx", "image/png", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
		{"xlsx", "application/vnd.ms-excel.sheet.macroenabled.12", "application/vnd.ms-excel.sheet.macroenabled.12"}, {"odt", any, "application/vnd.oasis.opendocument.text"}, {"epub", any, "application/epub+zip"},
		{"jar", any, "application/java-archive"}, {"jar", "application/vnd.android.package-archive", "application/vnd.android.package-archive"}, {"jar", "image/png", "application/java-archive"},
		{"ole", "application/msword", "application/msword"}, {"rar", "application/vnd.comicbook-rar", "application/vnd.comicbook-rar"}, {"rar", "text/plain", "application/vnd.rar"},
		// They say nothing.
		{"unknown", "application/x-thing", "application/x-thing"}, {"unknown", "video/mp2t", "video/mp2t"}, {"empty", "image/gif", "image/gif"}, {"empty", any, octets},
	} {
		content := samples[tt.sample]
		declared, err := declaredType(tt.declared)
		if err != nil {
			t.Fatal(err)
		}
		body, got, err := s.blobType(strings.NewReader(content), declared)
		if err != nil || got != tt.want {
			t.Errorf("%s, declared as %s: %s, want %s (%v)", tt.sample, tt.declared, got, tt.want, err)
			continue
		}
		if all, err := io.ReadAll(body); err != nil || string(all) != content {
			t.Errorf("%s: the body was changed", tt.sample)
		}
		// Parameters and case make no difference.
		again, err := declaredType(" " + strings.ToUpper(tt.declared) + `; charset="utf-8";codecs=opus`)
		if err != nil || again != declared {
			t.Errorf("%s with parameters: %q, %v", tt.declared, again, err)
		}
	}
}

// TestTypeOfBlobByStandard has what a Service without a sniffer of its own finds.
func TestTypeOfBlobByStandard(t *testing.T) {
	for _, tt := range []struct{ sample, declared, want string }{
		{"png", "*/*", "image/png"}, {"png", "text/plain", "image/png"}, {"webp", "image/jpeg", "image/webp"}, {"jpeg", "image/jpg", "image/jpeg"},
		{"opus", "audio/ogg", "audio/ogg"}, {"opus", "audio/opus", "audio/opus"}, {"theora", "video/ogg", "video/ogg"}, {"opus", "*/*", "application/ogg"},
		{"mp4", "audio/mp4", "audio/mp4"}, {"mp42", "video/quicktime", "video/quicktime"}, {"webm", "audio/webm", "audio/webm"}, {"mkv", "video/x-matroska", "video/x-matroska"},
		{"heic", "image/heic", "image/heic"}, {"avif", "image/avif", "image/avif"}, {"gzip", "application/x-tgs", "application/x-tgs"}, {"zip", "application/epub+zip", "application/epub+zip"},
		{"text", "text/markdown", "text/markdown"}, {"html", "image/svg+xml", "image/svg+xml"}, {"html", "application/octet-stream", "application/octet-stream"}, {"unknown", "*/*", "application/octet-stream"},
	} {
		_, got, err := (&Service{}).blobType(strings.NewReader(samples[tt.sample]), tt.declared)
		if err != nil || got != tt.want {
			t.Errorf("%s, declared as %s: %s, want %s (%v)", tt.sample, tt.declared, got, tt.want, err)
		}
	}
}

func TestMalformedTypes(t *testing.T) {
	for _, s := range []string{"", " ", "image", "image/", "/png", "image/png/x", "image png", "image/*", "*", "*/png", "image/p ng", "image/png;=", "image/png; charset",
		"im\x00age/png", "image/p\u00f6g", "image/png, image/jpeg", "-image/png", strings.Repeat("a", 128) + "/b", "a/" + strings.Repeat("b", 128), `"image/png"`} {
		if got, err := declaredType(s); err == nil {
			t.Errorf("%q: %q", s, got)
		}
	}
	for s, want := range map[string]string{"image/svg+xml": "image/svg+xml", "application/vnd.api+json; a=b": "application/vnd.api+json", "X-Foo/x.y_z-1!#$&^": "x-foo/x.y_z-1!#$&^", "*/*; q=0.1": "*/*"} {
		if got, err := declaredType(s); err != nil || got != want {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
}

// FuzzTypeOfBlob: any bytes have a type that can be declared again, and it is the same then.
func FuzzTypeOfBlob(f *testing.F) {
	for _, content := range samples {
		f.Add([]byte(content), "*/*")
		f.Add([]byte(content), "image/png")
	}
	f.Fuzz(func(t *testing.T, content []byte, contentType string) {
		declared, err := declaredType(contentType)
		if err != nil {
			return
		}
		s := &Service{Sniff: blobtype.Sniff}
		_, got, err := s.blobType(bytes.NewReader(content), declared)
		if err != nil {
			t.Fatal(err)
		}
		again, err := declaredType(got)
		if err != nil || again != got {
			t.Fatalf("%q is no type: %v", got, err)
		}
		if _, third, _ := s.blobType(bytes.NewReader(content), got); third != got {
			t.Fatalf("%q becomes %q", got, third)
		}
	})
}
