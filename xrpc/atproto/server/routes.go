package server

import (
	"context"
	"slices"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/session"
)

// Routes returns all methods of the service: those of Accounts, Identity, Admin and Moderation.
func (s *Service) Routes() []xrpc.Route {
	return slices.Concat(s.Accounts(), s.Identity(), s.Admin(), s.Moderation())
}

// route is one method. Whose sessions it takes is said by who: any, or also that of an account that
// was taken down.
func route(nsid string, who xrpc.Authenticator, h xrpc.Handler, needs ...auth.Permission) xrpc.Route {
	return xrpc.Route{NSID: nsid, Auth: who, Handler: h, Needs: needs}
}

// Accounts returns the methods with which users create and manage their accounts:
// com.atproto.server, without the methods of package session, and
// com.atproto.temp.checkSignupQueue.
func (s *Service) Accounts() []xrpc.Route {
	user, evenTakenDown, admin := s.sessions.User(session.RefuseTakenDown), s.sessions.User(session.AcceptTakenDown), s.sessions.Admin
	return []xrpc.Route{
		route(api.ServerDescribeServerNSID, nil, query(s.describeServer)),
		route(api.ServerCreateAccountNSID, s.sessions.OptionalService(), procedure(s.createAccount)),
		route(api.ServerActivateAccountNSID, user, procedure(s.activateAccount), auth.ManageLifecycle),
		route(api.ServerDeactivateAccountNSID, evenTakenDown, procedure(s.deactivateAccount), auth.ManageLifecycle),
		route(api.ServerCheckAccountStatusNSID, user, query(s.checkAccountStatus)),
		route(api.ServerRequestAccountDeleteNSID, evenTakenDown, procedure(s.requestAccountDelete), auth.ManageLifecycle),
		route(api.ServerDeleteAccountNSID, nil, procedure(s.deleteAccount)),
		route(api.ServerRequestEmailConfirmationNSID, user, procedure(s.requestEmailConfirmation), auth.ManageEmail),
		route(api.ServerConfirmEmailNSID, user, procedure(s.confirmEmail), auth.ManageEmail),
		route(api.ServerRequestEmailUpdateNSID, user, procedure(s.requestEmailUpdate), auth.ManageCredentials),
		route(api.ServerUpdateEmailNSID, user, procedure(s.updateEmail), auth.ManageCredentials),
		route(api.ServerRequestPasswordResetNSID, nil, procedure(s.requestPasswordReset)),
		route(api.ServerResetPasswordNSID, nil, procedure(s.resetPassword)),
		route(api.ServerReserveSigningKeyNSID, nil, procedure(s.reserveSigningKey)),
		route(api.ServerGetAccountInviteCodesNSID, user, query(s.getAccountInviteCodes), auth.ReadInvites),
		route(api.ServerCreateInviteCodeNSID, admin, procedure(s.createInviteCode), auth.Administer),
		route(api.ServerCreateInviteCodesNSID, admin, procedure(s.createInviteCodes), auth.Administer),
		route(api.TempCheckSignupQueueNSID, user, query(s.checkSignupQueue), auth.ReadQueue),
	}
}

// Identity returns the methods of com.atproto.identity that change handles, and the documents of
// accounts with a did:plc.
func (s *Service) Identity() []xrpc.Route {
	user, evenTakenDown := s.sessions.User(session.RefuseTakenDown), s.sessions.User(session.AcceptTakenDown)
	return []xrpc.Route{
		route(api.IdentityUpdateHandleNSID, user, procedure(s.updateHandle), auth.ManageHandle),
		route(api.IdentityGetRecommendedDIDCredentialsNSID, user, query(s.getRecommendedDidCredentials)),
		route(api.IdentityRequestPLCOperationSignatureNSID, evenTakenDown, procedure(s.requestPlcOperationSignature), auth.ManageIdentity),
		route(api.IdentitySignPLCOperationNSID, evenTakenDown, procedure(s.signPlcOperation), auth.ManageIdentity),
		route(api.IdentitySubmitPLCOperationNSID, user, procedure(s.submitPlcOperation), auth.SubmitIdentity),
	}
}

// Admin returns the methods of com.atproto.admin with which the operator changes accounts and
// invite codes, and with which moderators see them.
func (s *Service) Admin() []xrpc.Route {
	moderator, admin := s.sessions.Moderator(), s.sessions.Admin
	return []xrpc.Route{
		route(api.AdminGetAccountInfoNSID, moderator, query(s.getAccountInfo), auth.Moderate),
		route(api.AdminGetAccountInfosNSID, moderator, query(s.getAccountInfos), auth.Moderate),
		route(api.AdminGetInviteCodesNSID, moderator, query(s.getInviteCodes), auth.Moderate),
		route(api.AdminDisableInviteCodesNSID, moderator, procedure(s.disableInviteCodes), auth.Moderate),
		route(api.AdminDisableAccountInvitesNSID, moderator, procedure(s.disableAccountInvites), auth.Moderate),
		route(api.AdminEnableAccountInvitesNSID, moderator, procedure(s.enableAccountInvites), auth.Moderate),
		route(api.AdminSendEmailNSID, moderator, procedure(s.sendEmail), auth.Moderate),
		route(api.AdminDeleteAccountNSID, admin, procedure(s.adminDeleteAccount), auth.Administer),
		route(api.AdminUpdateAccountEmailNSID, admin, procedure(s.updateAccountEmail), auth.Administer),
		route(api.AdminUpdateAccountHandleNSID, admin, procedure(s.updateAccountHandle), auth.Administer),
		route(api.AdminUpdateAccountPasswordNSID, admin, procedure(s.updateAccountPassword), auth.Administer),
	}
}

// Moderation returns the methods with which moderators take down accounts, records and blobs.
func (s *Service) Moderation() []xrpc.Route {
	moderator := s.sessions.Moderator()
	return []xrpc.Route{
		route(api.AdminGetSubjectStatusNSID, moderator, query(s.getSubjectStatus), auth.Moderate),
		route(api.AdminUpdateSubjectStatusNSID, moderator, procedure(s.updateSubjectStatus), auth.Moderate),
	}
}

// query and procedure are those of package session.
func query[P, O any](fn func(context.Context, *xrpc.Request, P) (O, error)) xrpc.Handler {
	return session.Query(fn)
}

func procedure[I, O any](fn func(context.Context, *xrpc.Request, I) (O, error)) xrpc.Handler {
	return session.Procedure(fn)
}

// checkSignupQueue: there is no queue here.
func (s *Service) checkSignupQueue(ctx context.Context, r *xrpc.Request, _ struct{}) (api.TempCheckSignupQueueOutput, error) {
	return api.TempCheckSignupQueueOutput{Activated: true}, nil
}
