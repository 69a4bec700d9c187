package readafter

import (
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Images makes the URLs of images.
type Images struct {
	// CDN is a pattern with %s for preset, DID and CID. Empty: getBlob of Host.
	CDN string
	// Host is this server's public URL.
	Host string
}

// URL returns the URL of an account's image in one of the presets avatar, banner, feed_thumbnail
// and feed_fullsize.
func (m Images) URL(preset string, did syntax.DID, c cid.Cid) string {
	if m.CDN == "" {
		return m.Host + "/xrpc/com.atproto.sync.getBlob?" + url.Values{"did": {string(did)}, "cid": {c.String()}}.Encode()
	}
	s := m.CDN
	for _, v := range []string{preset, string(did), c.String()} {
		s = strings.Replace(s, "%s", v, 1)
	}
	return s
}

// actorView is app.bsky.actor.defs#profileViewBasic.
type actorView struct {
	DID         syntax.DID    `json:"did"`
	Handle      syntax.Handle `json:"handle"`
	DisplayName string        `json:"displayName,omitempty"`
	Pronouns    string        `json:"pronouns,omitempty"`
	Avatar      string        `json:"avatar,omitempty"`
}

// postView is app.bsky.feed.defs#postView. All its counts are zero: the post is new.
type postView struct {
	URI         string          `json:"uri"`
	CID         string          `json:"cid"`
	Author      actorView       `json:"author"`
	Record      json.RawMessage `json:"record"`
	Embed       any             `json:"embed,omitempty"`
	ReplyCount  int             `json:"replyCount"`
	RepostCount int             `json:"repostCount"`
	LikeCount   int             `json:"likeCount"`
	QuoteCount  int             `json:"quoteCount"`
	IndexedAt   syntax.Datetime `json:"indexedAt"`
}

// viewer makes views of what is local.
type viewer struct {
	*local
	images Images
	quotes func() map[string]json.RawMessage // views of quoted records by URI; nil: none
}

func (v *viewer) author() actorView {
	a := actorView{DID: v.DID, Handle: v.Handle}
	if p := v.Profile; p != nil {
		a.DisplayName, a.Pronouns, a.Avatar = p.DisplayName, p.Pronouns, v.image("avatar", p.Avatar)
	}
	return a
}

func (v *viewer) image(preset string, b *data.Blob) string {
	if b == nil || !b.Ref.Defined() {
		return ""
	}
	return v.images.URL(preset, v.DID, b.Ref)
}

func (v *viewer) post(p *post) postView {
	return postView{
		URI: p.URI, CID: p.CID, Author: v.author(), Record: p.JSON,
		Embed: v.embed(p.Fields.Embed), IndexedAt: datetime(p.Time),
	}
}

// datetime writes a time with milliseconds, as AppViews do.
func datetime(t time.Time) syntax.Datetime {
	return syntax.Datetime(t.UTC().Format("2006-01-02T15:04:05.000Z"))
}

// The embeds of records, and their views.
type (
	imagesEmbed struct {
		Images []imageEmbed `json:"images"`
	}
	galleryEmbed struct {
		Items []imageEmbed `json:"items"`
	}
	imageEmbed struct {
		Type  string       `json:"$type"`
		Image *data.Blob   `json:"image"`
		Alt   string       `json:"alt"`
		Ratio *aspectRatio `json:"aspectRatio"`
	}
	externalEmbed struct {
		External struct {
			URI         string     `json:"uri"`
			Title       string     `json:"title"`
			Description string     `json:"description"`
			Thumb       *data.Blob `json:"thumb"`
		} `json:"external"`
	}
	recordEmbed struct {
		Record ref `json:"record"`
	}
	recordWithMediaEmbed struct {
		Record recordEmbed `json:"record"`
		Media  data.Object `json:"media"`
	}

	imageView struct {
		Type      string       `json:"$type,omitempty"`
		Thumb     string       `json:"thumb,omitempty"`
		Thumbnail string       `json:"thumbnail,omitempty"`
		Fullsize  string       `json:"fullsize"`
		Alt       string       `json:"alt"`
		Ratio     *aspectRatio `json:"aspectRatio,omitempty"`
	}
	aspectRatio struct {
		Width  int64 `json:"width"`
		Height int64 `json:"height"`
	}
	externalView struct {
		URI         string `json:"uri"`
		Title       string `json:"title"`
		Description string `json:"description"`
		Thumb       string `json:"thumb,omitempty"`
	}
	// embedView is the view of any embed; which, its $type says.
	embedView struct {
		Type     string        `json:"$type"`
		Images   []imageView   `json:"images,omitempty"`
		Items    []imageView   `json:"items,omitempty"`
		External *externalView `json:"external,omitempty"`
		Record   any           `json:"record,omitempty"`
		Media    any           `json:"media,omitempty"`
	}
	viewNotFound struct {
		Type     string `json:"$type"`
		URI      string `json:"uri"`
		NotFound bool   `json:"notFound"`
	}
	viewRecord struct {
		Type      string          `json:"$type"`
		URI       string          `json:"uri"`
		CID       string          `json:"cid"`
		Author    any             `json:"author"`
		Value     json.RawMessage `json:"value"`
		Labels    json.RawMessage `json:"labels,omitempty"`
		Embeds    []any           `json:"embeds,omitempty"`
		IndexedAt syntax.Datetime `json:"indexedAt"`
	}
)

// embed is the view of a post's embed, or nil: there is none, or only an AppView can
// make it, as that of a video.
func (v *viewer) embed(e data.Object) any {
	switch e.Type() {
	case "app.bsky.embed.record":
		var in recordEmbed
		if e.Into(&in) == nil {
			return embedView{Type: "app.bsky.embed.record#view", Record: v.quote(in.Record.URI)}
		}
	case "app.bsky.embed.recordWithMedia":
		var in recordWithMediaEmbed
		if e.Into(&in) != nil {
			return nil
		}
		if media := v.media(in.Media); media != nil {
			return embedView{
				Type:   "app.bsky.embed.recordWithMedia#view",
				Record: embedView{Type: "app.bsky.embed.record#view", Record: v.quote(in.Record.Record.URI)},
				Media:  media,
			}
		}
	}
	return v.media(e)
}

// media is the view of an embed that is no record, or nil.
func (v *viewer) media(e data.Object) any {
	switch e.Type() {
	case "app.bsky.embed.images":
		var in imagesEmbed
		if e.Into(&in) != nil {
			return nil
		}
		out := embedView{Type: "app.bsky.embed.images#view"}
		for _, m := range in.Images {
			out.Images = append(out.Images, imageView{
				Thumb: v.image("feed_thumbnail", m.Image), Fullsize: v.image("feed_fullsize", m.Image), Alt: m.Alt, Ratio: m.Ratio,
			})
		}
		return out
	case "app.bsky.embed.gallery":
		var in galleryEmbed
		if e.Into(&in) != nil {
			return nil
		}
		out := embedView{Type: "app.bsky.embed.gallery#view"}
		for _, m := range in.Items {
			if m.Type == "app.bsky.embed.gallery#image" {
				out.Items = append(out.Items, imageView{
					Type: "app.bsky.embed.gallery#viewImage", Thumbnail: v.image("feed_thumbnail", m.Image),
					Fullsize: v.image("feed_fullsize", m.Image), Alt: m.Alt, Ratio: m.Ratio,
				})
			}
		}
		return out
	case "app.bsky.embed.external":
		var in externalEmbed
		if e.Into(&in) != nil {
			return nil
		}
		x := in.External
		return embedView{Type: "app.bsky.embed.external#view", External: &externalView{x.URI, x.Title, x.Description, v.image("feed_thumbnail", x.Thumb)}}
	}
	return nil
}

// quote is the view of a quoted record: a local post, what the AppView says, or that there is
// none.
func (v *viewer) quote(uri string) any {
	if p := v.find(uri); p != nil {
		out := viewRecord{
			Type: "app.bsky.embed.record#viewRecord", URI: p.URI, CID: p.CID,
			Author: v.author(), Value: p.JSON, IndexedAt: datetime(p.Time),
		}
		if media := v.media(p.Fields.Embed); media != nil {
			out.Embeds = []any{media}
		}
		return out
	}
	if v.quotes != nil {
		if view, ok := v.quotes()[uri]; ok {
			return view
		}
	}
	return viewNotFound{"app.bsky.embed.record#viewNotFound", uri, true}
}

// quoted is the URI of the record that a post quotes and that is not a local post, or "".
func (l *local) quoted(p *post) (uri string) {
	switch e := p.Fields.Embed; e.Type() {
	case "app.bsky.embed.record":
		var in recordEmbed
		e.Into(&in)
		uri = in.Record.URI
	case "app.bsky.embed.recordWithMedia":
		var in recordWithMediaEmbed
		e.Into(&in)
		uri = in.Record.Record.URI
	}
	if l.find(uri) != nil {
		return ""
	}
	return uri
}
