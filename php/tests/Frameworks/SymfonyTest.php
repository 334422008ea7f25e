<?php

declare(strict_types=1);

namespace FastifyPushBridge\Tests\Frameworks;

use FastifyPushBridge\Publisher;
use FastifyPushBridge\PushException;
use FastifyPushBridge\Symfony\PushOptions;
use FastifyPushBridge\Symfony\PushTransportFactory;
use PHPUnit\Framework\TestCase;
use Symfony\Component\Notifier\Chatter;
use Symfony\Component\Notifier\Exception\IncompleteDsnException;
use Symfony\Component\Notifier\Exception\LogicException;
use Symfony\Component\Notifier\Exception\TransportExceptionInterface;
use Symfony\Component\Notifier\Exception\UnsupportedSchemeException;
use Symfony\Component\Notifier\Message\ChatMessage;
use Symfony\Component\Notifier\Message\SmsMessage;
use Symfony\Component\Notifier\Notification\Notification;
use Symfony\Component\Notifier\Transport\Dsn;
use Symfony\Component\Notifier\Transport\TransportInterface;

final class SymfonyTest extends TestCase
{
    private RecordingTransport $transport;

    protected function setUp(): void
    {
        $this->transport = new RecordingTransport();
    }

    private function chat(string $dsn): TransportInterface
    {
        $factory = new PushTransportFactory(new Publisher($this->transport, retryFor: 0));
        return $factory->create(new Dsn($dsn));
    }

    public function testANotificationReachesTheTopicOfTheDsn(): void
    {
        $chatter = new Chatter($chat = $this->chat('push://default?topic=channel:news'));
        $chatter->send(new ChatMessage('hello'));
        $chatter->send(ChatMessage::fromNotification((new Notification('hello'))->content('world')));
        $common = ['type' => 'notification', 'to' => 'channel:news'];
        self::assertEquals([
            $common + ['payload' => ['subject' => 'hello']],
            $common + ['payload' => ['subject' => 'hello', 'content' => 'world']],
        ], $this->transport->published);
        self::assertSame('push://default?topic=channel:news', (string) $chat);
    }

    public function testTheOptionsOfAMessageSayWhoGetsWhat(): void
    {
        $options = new PushOptions('user:42', 'order.shipped', ['id' => 8]);
        $sent = $this->chat('push://default')->send(new ChatMessage('shipped', $options));
        self::assertEquals(
            [['type' => 'order.shipped', 'payload' => ['subject' => 'shipped', 'id' => 8], 'to' => 'user:42']],
            $this->transport->published,
        );
        self::assertSame('push://default', $sent->getTransport());
    }

    public function testWhatCannotBeSentSaysWhy(): void
    {
        $chat = $this->chat('push://default');
        self::assertFalse($chat->supports(new SmsMessage('+4930123', 'x')));
        foreach ([new SmsMessage('+4930123', 'x'), new ChatMessage('nowhere')] as $message) {
            try {
                $chat->send($message);
                self::fail('sent');
            } catch (LogicException) {
                self::assertSame([], $this->transport->published);
            }
        }
    }

    public function testAFailureIsOneOfTheTransportSoThatAnotherOneIsTried(): void
    {
        $this->transport->failure = new PushException('PUSH_ERR_BROKER_AWAY', 'nobody is there');
        try {
            $this->chat('push://default?topic=all')->send(new ChatMessage('x'));
            self::fail('sent');
        } catch (TransportExceptionInterface $problem) {
            self::assertSame('not published: nobody is there', $problem->getMessage());
            self::assertSame('PUSH_ERR_BROKER_AWAY', $problem->getDebug());
        }
    }

    public function testADsnHasNoSecretInItsName(): void
    {
        $chat = $this->chat('pushs://a-long-random-key@push.example.com:8443/api/push?topic=all');
        self::assertSame('pushs://push.example.com:8443/api/push?topic=all', (string) $chat);
    }

    public function testAWrongDsnIsNamed(): void
    {
        $wrong = ['push://127.0.0.1:3000/push' => IncompleteDsnException::class, 'slack://x' => UnsupportedSchemeException::class];
        foreach ($wrong as $dsn => $class) {
            try {
                $this->chat($dsn);
                self::fail("$dsn was taken");
            } catch (\Exception $problem) {
                self::assertInstanceOf($class, $problem);
            }
        }
        $this->expectException(IncompleteDsnException::class);
        (new PushTransportFactory())->create(new Dsn('push://default'));
    }
}
