<?php

declare(strict_types=1);

namespace FastifyPushBridge\Tests\Frameworks;

use FastifyPushBridge\Identity;
use FastifyPushBridge\Laravel\PushBroadcaster;
use FastifyPushBridge\Laravel\PushServiceProvider;
use FastifyPushBridge\Publisher;
use FastifyPushBridge\PushException;
use Illuminate\Auth\Access\AuthorizationException;
use Illuminate\Auth\GenericUser;
use Illuminate\Broadcasting\BroadcastException;
use Illuminate\Broadcasting\BroadcastManager;
use Illuminate\Broadcasting\BroadcastServiceProvider;
use Illuminate\Broadcasting\Channel;
use Illuminate\Broadcasting\EncryptedPrivateChannel;
use Illuminate\Broadcasting\PresenceChannel;
use Illuminate\Broadcasting\PrivateChannel;
use Illuminate\Config\Repository;
use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Foundation\Application;
use Illuminate\Http\Request;
use PHPUnit\Framework\TestCase;
use Symfony\Component\HttpKernel\Exception\AccessDeniedHttpException;
use Symfony\Component\HttpKernel\Exception\BadRequestHttpException;
use Symfony\Component\HttpKernel\Exception\NotFoundHttpException;
use Symfony\Component\HttpKernel\Exception\ServiceUnavailableHttpException;

final class LaravelTest extends TestCase
{
    private RecordingTransport $transport;

    protected function setUp(): void
    {
        $this->transport = new RecordingTransport();
    }

    private function driver(array $config = []): PushBroadcaster
    {
        $driver = new PushBroadcaster(fn () => new Publisher($this->transport, retryFor: 0), $config);
        $driver->channel('orders.{id}', static fn ($user, $id) => $id === '1');
        $driver->channel('room.{id}', static fn ($user, $id) => ['name' => $user->name, 'room' => $id]);
        $driver->channel('anybody', static fn ($user) => true);
        $driver->channel('late', static fn ($user) => throw new NotFoundHttpException());
        $driver->channel('policy', static fn ($user) => throw new AuthorizationException());
        $driver->channel('long', static fn ($user) => ['text' => str_repeat('x', 2000)]);
        $driver->channel('large.{id}', static fn ($user, $id) => ['text' => str_repeat('x', 1000)]);
        $driver->channel('staff', static fn ($user) => true, ['guards' => ['staff']]);
        return $driver;
    }

    private static function request(?array $body, ?string $user = '42', ?string $staff = null): Request
    {
        $request = Request::create('/broadcasting/auth', 'POST', $body ?? []);
        $request->setUserResolver(static function (?string $guard = null) use ($user, $staff): ?GenericUser {
            $id = $guard === 'staff' ? $staff : $user;
            return $id === null ? null : new GenericUser(['id' => $id, 'name' => "user $id"]);
        });
        return $request;
    }

    private function ask(array $channels, ?string $user = '42', array $config = [], ?string $staff = null): array
    {
        $answer = $this->driver($config)->auth(self::request(['channels' => $channels], $user, $staff));
        return [end($this->transport->tickets), (array) $answer['denied'], $answer['ticket']];
    }

    private static function right(string $name, string ...$actions): array
    {
        return ['topics' => ["channel:$name"], 'actions' => $actions];
    }

    public function testATicketIsForAllThatTheUserMayHear(): void
    {
        $channels = ['news', 'private-orders.1', 'private-orders.2', 'presence-room.7', 'private-none', 'news'];
        [$identity, $denied, $ticket] = $this->ask($channels);
        self::assertSame('ticket-1', $ticket);
        self::assertSame('42', $identity['user']);
        self::assertSame([
            self::right('news', 'subscribe'),
            self::right('private-orders.1', 'subscribe'),
            self::right('presence-room.7', 'subscribe', 'presence') + ['info' => ['name' => 'user 42', 'room' => '7']],
        ], $identity['allow']);
        self::assertSame(['private-orders.2' => 403, 'private-none' => 403], $denied);
        self::assertArrayNotHasKey('expires', $identity);
    }

    public function testAGuestHearsPublicChannelsAndNoOthers(): void
    {
        [$identity, $denied] = $this->ask(['news', 'private-anybody', 'presence-room.1'], null);
        self::assertSame([self::right('news', 'subscribe')], $identity['allow']);
        self::assertNull($identity['user']);
        self::assertSame(['private-anybody' => 403, 'presence-room.1' => 403], $denied);
        [$identity, $denied] = $this->ask(['news', 'admin'], null, ['public' => ['news']]);
        self::assertSame([[self::right('news', 'subscribe')], ['admin' => 403]], [$identity['allow'], $denied]);
    }

    public function testOneChannelThatFailsDoesNotKeepTheOthersBack(): void
    {
        Application::setInstance($app = new Application(sys_get_temp_dir()));
        $handler = $this->createMock(ExceptionHandler::class);
        $handler->expects(self::once())->method('report')->with(self::isInstanceOf(PushException::class));
        $app->instance(ExceptionHandler::class, $handler);
        $bad = ['private-late', 'private-policy', 'presence-long', 'private-encrypted-x', 'a b', 'presence-anybody'];
        [$identity, $denied] = $this->ask(['private-anybody', ...$bad]);
        self::assertSame(
            [self::right('private-anybody', 'subscribe'), self::right('presence-anybody', 'subscribe', 'presence')],
            $identity['allow'],
        );
        self::assertSame(
            ['private-late' => 404, 'private-policy' => 403, 'presence-long' => 500, 'private-encrypted-x' => 400, 'a b' => 400],
            $denied,
        );
    }

    public function testWhispersAndAnEndAreThereWhenTheConfigurationSaysSo(): void
    {
        $channels = ['news', 'private-anybody', 'presence-anybody'];
        [$identity] = $this->ask($channels, '42', ['whispers' => true, 'expires' => '60']);
        self::assertSame([
            self::right('news', 'subscribe'),
            self::right('private-anybody', 'subscribe', 'publish'),
            self::right('presence-anybody', 'subscribe', 'publish', 'presence'),
        ], $identity['allow']);
        self::assertEqualsWithDelta((microtime(true) + 60) * 1000, $identity['expires'], 30_000);
    }

    public function testTwoGuardsAreTwoPeople(): void
    {
        [$identity, $denied] = $this->ask(['private-staff'], null, [], '7');
        self::assertSame(['7', []], [$identity['user'], $denied]);
        [$identity, $denied] = $this->ask(['private-staff', 'private-anybody'], '42', [], '7');
        self::assertSame(['42', ['private-staff' => 403]], [$identity['user'], $denied]);
    }

    public function testARequestOfPushersKindIsAllowedOrRefused(): void
    {
        $auth = fn (?array $body) => $this->driver()->auth(self::request($body));
        self::assertSame('ticket-1', $auth(['channel_name' => 'private-orders.1', 'socket_id' => '1.1'])['ticket']);
        foreach ([['channel_name' => 'private-orders.2'], ['channels' => 'news'], null] as $body) {
            try {
                $auth($body);
                self::fail('not refused');
            } catch (AccessDeniedHttpException) {
                self::assertCount(1, $this->transport->tickets);
            }
        }
    }

    public function testChannelsBeyondTheLimitOfAConnectionAreDeniedAndTheOthersGranted(): void
    {
        $names = array_map(static fn (int $n) => "news-$n", range(1, 1000));
        [$identity, $denied] = $this->ask(['news-1', ...array_slice($names, 0, 130)]);
        self::assertCount(128, $identity['allow']);
        self::assertSame(self::right('news-128', 'subscribe'), end($identity['allow']));
        self::assertSame(['news-129' => 400, 'news-130' => 400], $denied);
        // As many as one may ask for, one of them twice.
        [$identity, $denied] = $this->ask([...array_slice($names, 0, 999), 'news-1']);
        self::assertSame([128, 999 - 128], [count($identity['allow']), count($denied)]);
    }

    public function testChannelsForWhichATicketHasNoRoomAreDeniedAndTheOthersGranted(): void
    {
        // What others see of the user is so large that 128 channels do not fit into one ticket.
        $rooms = array_map(static fn (int $n) => "presence-large.$n", range(1, 100));
        [$identity, $denied] = $this->ask([...$rooms, 'news']);
        $granted = count($identity['allow']) - 1;
        self::assertSame(self::right('news', 'subscribe'), end($identity['allow']));
        self::assertSame(array_fill_keys(array_slice($rooms, $granted), 413), $denied);
        $bytes = strlen(Identity::encode($identity));
        self::assertLessThanOrEqual(65_536, $bytes);
        self::assertGreaterThan(64_000, $bytes, 'as many as there is room for');
    }

    public function testTooManyChannelsAndOthersThanNamesAreRefused(): void
    {
        foreach ([array_map(strval(...), range(1, 1001)), [['x']]] as $channels) {
            try {
                $this->ask($channels);
                self::fail('not refused');
            } catch (BadRequestHttpException) {
                self::assertSame([], $this->transport->tickets);
            }
        }
    }

    public function testRedisThatIsAwayIsNoErrorOfTheApplication(): void
    {
        $this->transport->failure = new PushException('PUSH_ERR_BROKER_AWAY', 'away');
        $this->expectException(ServiceUnavailableHttpException::class);
        $this->ask(['news']);
    }

    public function testAnEventIsAMessageOnTheTopicsOfItsChannels(): void
    {
        $channels = [new Channel('news'), new PrivateChannel('orders.1'), new PresenceChannel('room.1'), 'plain'];
        $driver = $this->driver(['history' => ['private-orders.*' => ['size' => 10, 'ttl' => 60]]]);
        $driver->broadcast($channels, 'App\Events\OrderShipped', ['id' => 1, 'socket' => 'abc']);
        $common = ['type' => 'App.Events.OrderShipped', 'payload' => ['id' => 1]];
        $except = ['except' => ['connection:abc']];
        self::assertSame([
            [...$common, 'to' => 'channel:news', ...$except],
            [...$common, 'to' => 'channel:private-orders.1', ...$except, 'history' => ['size' => 10, 'ttl' => 60]],
            [...$common, 'to' => 'channel:presence-room.1', ...$except],
            [...$common, 'to' => 'channel:plain', ...$except],
        ], $this->transport->published);
    }

    public function testNamesOfEventsAreTakenAsTheyAreAndOddSocketsSkipNobody(): void
    {
        foreach ([null, '', 'a b', str_repeat('x', 201)] as $socket) {
            $this->driver()->broadcast([new Channel('news')], 'order.shipped', ['socket' => $socket]);
        }
        $this->driver()->broadcast([], 'order.shipped', []);
        $one = ['type' => 'order.shipped', 'payload' => [], 'to' => 'channel:news'];
        self::assertSame(array_fill(0, 4, $one), $this->transport->published);
    }

    /** @dataProvider wrong */
    public function testWhatCannotBeBroadcastSaysWhy(mixed $channel, string $event, string $sentence): void
    {
        try {
            $this->driver()->broadcast([$channel], $event, ['x' => 1]);
            self::fail('not refused');
        } catch (BroadcastException $problem) {
            self::assertStringContainsString($sentence, $problem->getMessage());
            self::assertInstanceOf(PushException::class, $problem->getPrevious());
            self::assertSame([], $this->transport->published);
        }
    }

    public static function wrong(): iterable
    {
        yield 'a name' => [new PrivateChannel('orders 1'), 'a', 'white space'];
        yield 'a long name' => [new Channel(str_repeat('x', 201)), 'a', 'longer than 200 bytes'];
        yield 'encrypted' => [new EncryptedPrivateChannel('x'), 'a', 'private-encrypted-x is encrypted'];
        yield 'a reserved type' => [new Channel('x'), 'error', 'reserved'];
        yield 'no type' => [new Channel('x'), 'Bestellung größer', 'type is not'];
    }

    public function testAFailureOfTheNodesIsABroadcastException(): void
    {
        $this->transport->failure = new PushException('PUSH_ERR_BROKER_AWAY', 'nobody listens');
        $this->expectException(BroadcastException::class);
        $this->expectExceptionMessage('nobody listens');
        $this->driver()->broadcast([new Channel('a'), new Channel('b')], 'a', []);
    }

    public function testTheProviderAddsTheDriverAndThePublisher(): void
    {
        $app = new Application(sys_get_temp_dir());
        $url = ['url' => 'http://127.0.0.1:3000/push', 'key' => 'a-long-random-key'];
        $app->instance('config', new Repository(['broadcasting' => [
            'default' => 'push',
            'connections' => ['push' => ['history' => ['x' => ['size' => 1, 'ttl' => 1]]] + $url, 'eu' => ['driver' => 'push'] + $url],
        ]]));
        $app->register(BroadcastServiceProvider::class);
        $app->register(PushServiceProvider::class);
        $app->boot();
        $manager = $app->make(BroadcastManager::class);
        self::assertInstanceOf(PushBroadcaster::class, $manager->driver());
        self::assertInstanceOf(PushBroadcaster::class, $manager->driver('eu'));
        self::assertInstanceOf(Publisher::class, $app->make(Publisher::class));
        $config = $app->make('config')->get('broadcasting.connections.push');
        self::assertSame(['push', ['*'], ['x']], [$config['driver'], $config['public'], array_keys($config['history'])]);
    }
}
