"""Subscriptions to the AF's events as HTTP callbacks, over gRPC; ``rest_notifications`` has the same over HTTP."""

from __future__ import annotations

from google.protobuf.field_mask_pb2 import FieldMask

from nf.af.providers import Context, Provider, Providers
from nf.af.v1 import notification_subscriptions_pb2 as api
from nf.af.v1.notification_subscriptions_pb2_grpc import NotificationSubscriptionsServiceServicer
from nf.common import notification_subscriptions as domain
from nf.common.callback_hosts import CallbackHosts
from nf.common.callbacks import Callbacks
from nf.common.store import Page, Store, Transaction
from nf.common.v1.notifications_pb2 import NotificationSubscription


class NotificationSubscriptions:
    """What both doors do: a provider has its own subscriptions, an operator sees all."""

    def __init__(self, store: Store, hosts: CallbackHosts, callbacks: Callbacks) -> None:
        self._store = store
        self._hosts = hosts
        self._callbacks = callbacks

    async def create(
        self, provider: Provider, request: api.CreateNotificationSubscriptionRequest
    ) -> NotificationSubscription:
        """Subscribes."""
        wanted, method = request.notification_subscription, provider.scoped("CreateNotificationSubscription")

        def work(transaction: Transaction) -> NotificationSubscription:
            def make() -> NotificationSubscription:
                return domain.create(transaction, wanted, provider.sees, self._hosts)

            return transaction.once(request.request_id, method, request, make)

        made = await self._store.write(work)
        self._callbacks.wake()
        return made

    async def get(self, provider: Provider, subscription_id: str) -> NotificationSubscription:
        """One subscription."""
        return await self._store.read(lambda reader: domain.require(reader, subscription_id, provider.sees))

    async def list(self, provider: Provider, page_size: int, page_token: str) -> Page[NotificationSubscription]:
        """One page."""
        return await self._store.read(
            lambda reader: domain.list_subscriptions(reader, provider.sees, page_size=page_size, page_token=page_token)
        )

    async def update(
        self, provider: Provider, changes: NotificationSubscription, mask: FieldMask
    ) -> NotificationSubscription:
        """Changes one."""
        changed = await self._store.write(
            lambda transaction: domain.update(transaction, changes, mask, provider.sees, self._hosts)
        )
        self._callbacks.wake()
        return changed

    async def delete(self, provider: Provider, subscription_id: str, etag: str = "") -> None:
        """Ends one."""
        await self._store.write(lambda transaction: domain.remove(transaction, subscription_id, provider.sees, etag))
        self._callbacks.wake()


class NotificationSubscriptionsService(NotificationSubscriptionsServiceServicer):
    """Requests to the domain, its answers back."""

    def __init__(self, subscriptions: NotificationSubscriptions, providers: Providers) -> None:
        self._subscriptions = subscriptions
        self._providers = providers

    async def CreateNotificationSubscription(
        self, request: api.CreateNotificationSubscriptionRequest, context: Context
    ) -> api.CreateNotificationSubscriptionResponse:
        """Subscribes."""
        made = await self._subscriptions.create(self._providers.caller(context), request)
        return api.CreateNotificationSubscriptionResponse(notification_subscription=made)

    async def GetNotificationSubscription(
        self, request: api.GetNotificationSubscriptionRequest, context: Context
    ) -> api.GetNotificationSubscriptionResponse:
        """Reads a subscription."""
        found = await self._subscriptions.get(self._providers.caller(context), request.subscription_id)
        return api.GetNotificationSubscriptionResponse(notification_subscription=found)

    async def ListNotificationSubscriptions(
        self, request: api.ListNotificationSubscriptionsRequest, context: Context
    ) -> api.ListNotificationSubscriptionsResponse:
        """Lists subscriptions."""
        provider = self._providers.caller(context)
        page = await self._subscriptions.list(provider, request.page_size, request.page_token)
        return api.ListNotificationSubscriptionsResponse(
            notification_subscriptions=page.items, next_page_token=page.next_page_token
        )

    async def UpdateNotificationSubscription(
        self, request: api.UpdateNotificationSubscriptionRequest, context: Context
    ) -> api.UpdateNotificationSubscriptionResponse:
        """Changes a subscription."""
        provider = self._providers.caller(context)
        changed = await self._subscriptions.update(provider, request.notification_subscription, request.update_mask)
        return api.UpdateNotificationSubscriptionResponse(notification_subscription=changed)

    async def DeleteNotificationSubscription(
        self, request: api.DeleteNotificationSubscriptionRequest, context: Context
    ) -> api.DeleteNotificationSubscriptionResponse:
        """Ends a subscription."""
        await self._subscriptions.delete(self._providers.caller(context), request.subscription_id, request.etag)
        return api.DeleteNotificationSubscriptionResponse()
